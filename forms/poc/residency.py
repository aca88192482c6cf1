"""The residency arm: a table that is quick to read and slow to make again, so that whoever answers in time holds it.

T_0[i] is a word of Philox; T_l[i] is Philox of T_{l-1} at i and at two places that a key picks. An entry made again
from the seed takes 3**levels words, a read one. The last two levels stay, and both are read: chains of reads, each of
which says where the next one goes, many side by side. Exact on every processor. How the deadline divides a card's
memory from the host's behind the bus was measured on no GPU yet: until then nothing here attests VRAM. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy

from forms.poc.philox import LANES, Array, blocks, philox, words
from forms.poc.seeds import derive_key

Read = Callable[[int, Array], Array]
"""Entries of one of the two kept levels: 0 the one before the last, 1 the last."""
KEPT = 2
PLACE_FACTOR = 0x9E3779B1


@dataclass(frozen=True, slots=True)
class TableShape:
    """entries: of a level.  levels: above the first."""

    seed: bytes
    entries: int
    levels: int = 8

    @property
    def key(self) -> int:
        return derive_key("residency", self.seed, self.entries, self.levels)


def make_table(shape: TableShape, xp: ModuleType = numpy) -> tuple[Array, Array]:
    """The last two levels, uint32."""
    places = xp.arange(shape.entries, dtype=xp.uint64)
    before = level = words(shape.key, 0, shape.entries, xp=xp)
    for number in range(1, shape.levels + 1):
        first, second = _sources(shape, number, places, xp)
        before, level = level, _mixed(shape, number, (level, level[first], level[second]), xp)
    return before, level


def recompute(shape: TableShape, level: int, places: Array, xp: ModuleType = numpy) -> Array:
    """Entries of a level without a table: what a verifier does for a few, and a cheat for all that it lacks."""
    if level == 0:
        return _first(shape, places, xp)
    sources = xp.stack((places, *_sources(shape, level, places, xp)))
    return _mixed(shape, level, recompute(shape, level - 1, sources, xp), xp)


def probe(shape: TableShape, starts: Array, steps: int, read: Read, xp: ModuleType = numpy) -> Array:
    """Follow a chain from each start for `steps` reads: where each stood, (steps + 1, chains) uint64."""
    visited = [starts.astype(xp.uint64)]
    for step in range(steps):
        visited.append(_onward(shape, step, visited[-1], read(step % KEPT, visited[-1]), xp))
    return xp.stack(visited)


def steps_hold(shape: TableShape, visited: Array, steps: Iterable[int]) -> bool:
    """Whether the chains, on the host, went on from the named steps as they must, found without a table."""
    return all(
        numpy.array_equal(
            _onward(shape, step, visited[step], recompute(shape, shape.levels - 1 + step % KEPT, visited[step])),
            visited[step + 1],
        )
        for step in steps
    )


def _onward(shape: TableShape, step: int, places: Array, values: Array, xp: ModuleType = numpy) -> Array:
    # The place and the step count too: chains that meet part again, and none runs in a circle.
    turned = places * xp.uint64(PLACE_FACTOR) + xp.uint64(step)
    return (values.astype(xp.uint64) + turned) % xp.uint64(shape.entries)


def _first(shape: TableShape, places: Array, xp: ModuleType) -> Array:
    four = blocks(shape.key, places // xp.uint64(LANES), 0, xp)
    return xp.take_along_axis(four, (places % xp.uint64(LANES)).astype(xp.int64)[..., None], axis=-1)[..., 0]


def _sources(shape: TableShape, level: int, places: Array, xp: ModuleType) -> tuple[Array, Array]:
    picked = blocks(shape.key, places, level, xp)
    first, second = (picked[..., lane].astype(xp.uint64) % xp.uint64(shape.entries) for lane in (0, 1))
    return first, second


def _mixed(shape: TableShape, level: int, three: Sequence[Array] | Array, xp: ModuleType) -> Array:
    key = (shape.key & 0xFFFFFFFF, shape.key >> 32)
    return philox((three[0], three[1], three[2], xp.full_like(three[0], level)), key, xp)[0]
