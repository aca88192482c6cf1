"""A full queue costs whoever has the most in it, and everyone is served in turn."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.fair_queue import FairQueue, Sacrifice
from transport.interface import NodeId

A, B, C = (NodeId(bytes([value]) * 32) for value in (1, 2, 3))


def filled(limit: int, sacrifice: Sacrifice, *counts: tuple[NodeId, int]) -> FairQueue[str]:
    queue: FairQueue[str] = FairQueue(limit, sacrifice)
    for node, count in counts:
        for number in range(count):
            queue.put(node, f"{node[0]}.{number}")
    return queue


def everything(queue: FairQueue[str]) -> list[str]:
    return [queue.take() for _ in range(len(queue))]


def test_one_peer_is_served_in_order() -> None:
    assert everything(filled(9, Sacrifice.NEWEST, (A, 4))) == ["1.0", "1.1", "1.2", "1.3"]


def test_peers_are_served_in_turn() -> None:
    queue = filled(9, Sacrifice.NEWEST, (A, 4), (B, 1), (C, 2))
    assert everything(queue) == ["1.0", "2.0", "3.0", "1.1", "3.1", "1.2", "1.3"]


def test_flood_of_one_peer_costs_that_peer_only() -> None:
    queue = filled(8, Sacrifice.NEWEST, (A, 8))
    assert queue.put(A, "one more") == "one more"
    assert [queue.put(B, f"b{number}") for number in range(4)] == ["1.7", "1.6", "1.5", "1.4"]
    assert [queue.put(A, "more"), queue.put(B, "b4")] == ["more", "b4"]  # equal now: each pays for itself
    assert sorted(everything(queue)) == ["1.0", "1.1", "1.2", "1.3", "b0", "b1", "b2", "b3"]


def test_news_gives_up_what_is_old() -> None:
    queue = filled(3, Sacrifice.OLDEST, (A, 3))
    assert queue.put(A, "latest") == "1.0"
    assert everything(queue) == ["1.1", "1.2", "latest"]


def test_empty_queue_has_nothing_to_take() -> None:
    with pytest.raises(IndexError):
        filled(3, Sacrifice.OLDEST).take()


@given(st.integers(0, 2**32), st.sampled_from(Sacrifice))
def test_nothing_is_lost_or_doubled_and_a_fair_share_is_safe(seed: int, sacrifice: Sacrifice) -> None:
    dice = random.Random(seed)
    limit = dice.randrange(1, 20)
    queue: FairQueue[tuple[NodeId, int]] = FairQueue(limit, sacrifice)
    inside: dict[NodeId, list[int]] = {A: [], B: [], C: []}
    for number in range(200):
        node = dice.choices((A, B, C), (10, 2, 1))[0]
        if dice.random() < 0.7:
            inside[node].append(number)
            gone = queue.put(node, (node, number))
            if gone is not None:
                assert len(inside[gone[0]]) == max(map(len, inside.values())), "the greediest pays"
                inside[gone[0]].remove(gone[1])
        elif len(queue):
            node, taken = queue.take()
            assert taken == inside[node].pop(0), "in order"
        assert len(queue) == sum(map(len, inside.values())) <= limit
