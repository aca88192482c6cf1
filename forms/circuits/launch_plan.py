"""How much of which circuits goes into one launch: as much as fits, in order. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Need:
    """What one circuit takes. code: which program; those of one launch that are the same are there once.

    code_bytes: once a launch.  state_bytes, word_bytes: of one batch.
    """

    code: int
    code_bytes: int
    state_bytes: int
    word_bytes: int
    batches: int


@dataclass(frozen=True, slots=True)
class Room:
    """What a launch may take: of the device altogether, and of random words, which the host holds too."""

    device_bytes: int
    word_bytes: int


@dataclass(frozen=True, slots=True)
class Share:
    """Batches `first` … `first + count − 1` of circuit number `index`."""

    index: int
    first: int
    count: int


def plan_launches(needs: Sequence[Need], room: Room) -> list[list[Share]]:
    """Cut the batches of all circuits, in order, into launches with as much as there is room for.

    A launch has at least one batch, whatever that takes: a circuit larger than the room goes a batch at a time.
    """
    launches: list[list[Share]] = []
    for index, need in enumerate(needs):
        first = 0
        while first < need.batches:
            fits = _fits(launches[-1], needs, need, room) if launches else 0
            if fits < 1:
                launches.append([])
                fits = max(1, _fits([], needs, need, room))
            count = min(fits, need.batches - first)
            launches[-1].append(Share(index, first, count))
            first += count
    return launches


def device_bytes(launch: Sequence[Share], needs: Sequence[Need]) -> int:
    """What one launch takes of the device."""
    codes = {needs[share.index].code: needs[share.index].code_bytes for share in launch}
    return sum(codes.values()) + sum(
        share.count * (needs[share.index].state_bytes + needs[share.index].word_bytes) for share in launch
    )


def _fits(launch: Sequence[Share], needs: Sequence[Need], need: Need, room: Room) -> int:
    """How many batches of `need` still go into `launch`; below 1 for none."""
    is_there = any(needs[share.index].code == need.code for share in launch)
    free = room.device_bytes - device_bytes(launch, needs) - (0 if is_there else need.code_bytes)
    free_words = room.word_bytes - sum(share.count * needs[share.index].word_bytes for share in launch)
    by_words = free_words // need.word_bytes if need.word_bytes else need.batches
    return min(free // max(need.state_bytes + need.word_bytes, 1), by_words)
