"""What goes into one launch, and how batches share a block."""

from __future__ import annotations

import random

import pytest

from forms.circuits.device_runner import MOST_LANES, NEAR_WORDS, lanes_for
from forms.circuits.launch_plan import Need, Room, Share, device_bytes, plan_launches

ROOM = Room(device_bytes=1000, word_bytes=400)


def need(
    code: int = 1, batches: int = 1, *, code_bytes: int = 100, state_bytes: int = 10, word_bytes: int = 40
) -> Need:
    return Need(code, code_bytes, state_bytes, word_bytes, batches)


def test_batches_are_cut_where_their_words_fill_the_room() -> None:
    assert plan_launches([need(batches=23)], ROOM) == [[Share(0, 0, 10)], [Share(0, 10, 10)], [Share(0, 20, 3)]]


def test_batches_are_cut_where_the_device_is_full() -> None:
    assert plan_launches([need(batches=7, code_bytes=700)], ROOM) == [[Share(0, 0, 6)], [Share(0, 6, 1)]]


def test_variants_share_a_launch_and_a_program_that_is_named_again_takes_no_room() -> None:
    again = [need(1, code_bytes=800)] * 3
    apart = [need(code, code_bytes=450) for code in (1, 2, 1, 3)]
    assert plan_launches(again, ROOM) == [[Share(0, 0, 1), Share(1, 0, 1), Share(2, 0, 1)]]
    # Two programs and two batches are exactly what fits.
    assert plan_launches(apart, ROOM) == [[Share(0, 0, 1), Share(1, 0, 1)], [Share(2, 0, 1), Share(3, 0, 1)]]


def test_a_circuit_too_large_for_the_room_goes_a_batch_at_a_time() -> None:
    assert plan_launches([need(batches=2, code_bytes=5000)], ROOM) == [[Share(0, 0, 1)], [Share(0, 1, 1)]]


def test_circuits_without_words_or_batches() -> None:
    assert plan_launches([], ROOM) == []
    assert plan_launches([need(batches=0)], ROOM) == []
    assert plan_launches([need(batches=5, word_bytes=0)], ROOM) == [[Share(0, 0, 5)]]


@pytest.mark.parametrize("seed", range(20))
def test_every_batch_goes_once_and_no_launch_takes_more_than_there_is(seed: int) -> None:
    dice = random.Random(seed)
    needs = [
        need(dice.randrange(4), dice.randrange(30), state_bytes=dice.randrange(20), word_bytes=dice.randrange(60))
        for _ in range(10)
    ]
    launches = plan_launches(needs, ROOM)
    taken = [(share.index, share.first + at) for launch in launches for share in launch for at in range(share.count)]
    assert taken == [(index, batch) for index, one in enumerate(needs) for batch in range(one.batches)]
    assert all(device_bytes(launch, needs) <= ROOM.device_bytes for launch in launches)
    words = [sum(share.count * needs[share.index].word_bytes for share in launch) for launch in launches]
    assert max(words, default=0) <= ROOM.word_bytes


@pytest.mark.parametrize(
    ("batches", "rows", "lanes"),
    [
        ([1], 10, 1),
        # The public circuit: a block a batch up to 128, then two; three do not fit the shared memory of a block.
        ([128], 1868, 1),
        ([141], 1868, 2),
        ([1000], 1868, 2),
        ([1000], 100, 8),
        ([10**6], 100, MOST_LANES),
        # Too many rows for shared memory: as many batches a block as there are, for wide reads.
        ([10**6], NEAR_WORDS + 1, MOST_LANES),
        # Few batches each: no block with more lanes than batches.
        ([3] * 1000, 100, 2),
        ([1000, 1], 100, 1),
    ],
)
def test_lanes_of_a_block(batches: list[int], rows: int, lanes: int) -> None:
    assert lanes_for(batches, rows) == lanes
