"""Decides how a model is served: by this node alone, split over several, later, or never. Pure.

Which node decides for which model is `gossip.lease`'s election; how much a part needs is `llm.memory`'s to predict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, islice

from transport.interface import NodeId

GB = 1 << 30
MAX_WORKERS = 16  # GGML_RPC_MAX_SERVERS
TRIES_PER_COUNT = 24
"""Sets of nodes that are looked at in earnest for one number of workers: a prediction takes milliseconds."""
NEAREST = 12
NEAR_MS = 3.0
"""Within it all nodes are alike: on one network the moment decides who is nearer, and size should."""
KEEPS_NEAR_MS = 50.0
"""The same for a node that keeps the weights of its part: sending them anew takes longer than many round trips."""

Needs = Callable[[tuple[float, ...]], tuple[int, ...]]
"""Bytes that each part of a split with these shares needs, the leader's first; for no shares, one number: all of it."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A node that could hold a part. usable_bytes: what it has free for that.  rtt_ms: from the leader.

    keeps_weights: it was part of this model's split before.
    """

    node: NodeId
    name: str
    usable_bytes: int
    rtt_ms: float = 0.0
    keeps_weights: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """What one node holds: its share of the layers, and the memory that takes."""

    holder: Holder
    share: float
    needed_bytes: int


@dataclass(frozen=True, slots=True)
class Solo:
    """This node serves it alone. needed_bytes: there."""

    needed_bytes: int


@dataclass(frozen=True, slots=True)
class Split:
    """Several nodes serve it, the first of them leads."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Not with the nodes that are here. missing_bytes: at least so much more is needed.  reason: for people."""

    missing_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """No number of nodes like these can serve it. reason: the arithmetic, for people."""

    reason: str


Decision = Solo | Split | Wait | Refuse


def decide(me: Holder, others: Sequence[Holder], needs: Needs, layers: int, *, is_forced: bool) -> Decision:
    """How `me` serves a model of that many layers with the help of `others`.

    Solo where it fits here, unless a split is forced and possible; else the split with the fewest nodes, of those the
    nearest, of those such as were part of it before, of those the largest. needs: see `Needs`.
    """
    needs = lru_cache(maxsize=None)(needs)
    (alone_bytes,) = needs(())
    fits_here = alone_bytes <= me.usable_bytes
    if fits_here and not is_forced:
        return Solo(alone_bytes)
    if (split := find_split(me, others, needs, layers)) is not None:
        return split
    if fits_here:
        return Solo(alone_bytes)
    if refusal := _why_never(me, others, needs, layers):
        return Refuse(refusal)
    return _wait(me, others, needs)


def find_split(me: Holder, others: Sequence[Holder], needs: Needs, layers: int) -> Split | None:
    """The best split that holds the model, None when there is none."""
    (alone_bytes,) = needs(())
    for count in range(1, min(len(others), MAX_WORKERS, layers) + 1):
        sets = (workers for workers in _by_preference(others, count) if _is_enough(me, workers, alone_bytes))
        for workers in islice(sets, TRIES_PER_COUNT):
            if (split := _fitted((me, *workers), needs, layers)) is not None:
                return split
    return None


def _by_preference(others: Sequence[Holder], count: int) -> Iterator[tuple[Holder, ...]]:
    """Sets of `count` workers: nearer ones first, then those that keep weights, then larger ones."""
    nearest = sorted(others, key=lambda one: (_distance(one), not one.keeps_weights, -one.usable_bytes, one.node))
    few = nearest[: max(NEAREST, count)] if count > 1 else nearest
    if count == len(few):
        yield tuple(few)
        return

    def rank(workers: tuple[Holder, ...]) -> tuple[int, int, int]:
        keeping = sum(one.keeps_weights for one in workers)
        return sum(map(_distance, workers)), -keeping, -sum(one.usable_bytes for one in workers)

    yield from sorted(combinations(few, count), key=rank)


def _distance(holder: Holder) -> int:
    return 0 if holder.rtt_ms < (KEEPS_NEAR_MS if holder.keeps_weights else NEAR_MS) else round(holder.rtt_ms)


def _is_enough(me: Holder, workers: Sequence[Holder], alone_bytes: int) -> bool:
    # Cheap and on the safe side: a split needs no less than half of what one node would, and mostly more.
    return 2 * (me.usable_bytes + sum(one.usable_bytes for one in workers)) >= alone_bytes


def _fitted(holders: tuple[Holder, ...], needs: Needs, layers: int) -> Split | None:
    """These nodes' parts, proportional to their memory; where that overflows one, layers move to where room is."""
    total = sum(one.usable_bytes for one in holders)
    if not all(one.usable_bytes for one in holders):
        return None
    shares = tuple(max(0.01, round(one.usable_bytes / total, 2)) for one in holders)
    needed = needs(shares)
    if _overflow(holders, needed):
        moved = _moved(holders, needs, _steps(shares, layers + 1))
        if moved is None:
            return None
        shares, needed = moved
    return Split(tuple(Part(*part) for part in zip(holders, shares, needed, strict=True)))


def _moved(
    holders: tuple[Holder, ...], needs: Needs, steps: list[int]
) -> tuple[tuple[float, ...], tuple[int, ...]] | None:
    """Shares in whole layers that fit, by moving one after the other away from the node that overflows most."""
    for _ in range(sum(steps)):
        shares = tuple(float(count) for count in steps)
        needed = needs(shares)
        if not _overflow(holders, needed):
            return shares, needed
        room = [one.usable_bytes - need for one, need in zip(holders, needed, strict=True)]
        fullest, emptiest = room.index(min(room)), room.index(max(room))
        if room[emptiest] <= 0 or steps[fullest] <= 1:
            return None
        steps[fullest] -= 1
        steps[emptiest] += 1
    return None


def _steps(shares: tuple[float, ...], steps: int) -> list[int]:
    """Whole numbers of layers near these shares, none of them 0."""
    counts = [max(1, round(share / sum(shares) * steps)) for share in shares]
    counts[counts.index(max(counts))] += steps - sum(counts)
    return counts


def _overflow(holders: Sequence[Holder], needed: Sequence[int]) -> int:
    """By how many bytes the parts exceed what their nodes have, all together."""
    return sum(max(0, need - one.usable_bytes) for one, need in zip(holders, needed, strict=True))


def _wait(me: Holder, others: Sequence[Holder], needs: Needs) -> Wait:
    holders = (me, *sorted(others, key=lambda one: -one.usable_bytes)[:MAX_WORKERS])
    total = sum(one.usable_bytes for one in holders)
    shares = tuple(max(0.01, one.usable_bytes / max(total, 1)) for one in holders)
    needed = needs(shares if others else ())
    missing = max(sum(needed) - total, _overflow(holders, needed), 1)
    nodes = "one node, which offers" if len(holders) == 1 else f"{len(holders)} nodes, which offer"
    have = " + ".join(in_gb(one.usable_bytes) for one in holders)
    return Wait(
        missing,
        f"waiting for another node: {in_gb(missing)} GB short; needs {in_gb(sum(needed))} GB on {nodes} {have} GB",
    )


def _why_never(me: Holder, others: Sequence[Holder], needs: Needs, layers: int) -> str:
    """Why not even as many nodes as a split may have, each as large as the largest here, would hold it."""
    largest = max((me, *others), key=lambda one: one.usable_bytes)
    count = min(MAX_WORKERS + 1, layers + 1)
    needed = needs((1.0,) * count)
    if max(needed) <= largest.usable_bytes:
        return ""
    (alone_bytes,) = needs(())
    return (
        f"cannot fit: it needs {in_gb(alone_bytes)} GB on one node; split over {count} nodes, the most there can be, "
        f"the largest part needs {in_gb(max(needed))} GB, and the largest node here ({largest.name}) offers "
        f"{in_gb(largest.usable_bytes)} GB; use a smaller quantisation, less --ctx or --parallel, or a larger node"
    )


def own_layers(shares: Sequence[float], layers: int) -> int:
    """How many layers a leader keeps on its own CPU, of a split with these shares, its own first."""
    return min(layers, max(1, round(shares[0] / sum(shares) * (layers + 1))))


def in_gb(count: int) -> str:
    """Bytes as people read them: three digits that count."""
    return f"{count / GB:.3g}"
