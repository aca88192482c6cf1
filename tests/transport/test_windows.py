"""Windows of many peers stay within one budget, and a greedy peer leaves room for the others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from transport.credit import INITIAL_WINDOW_BYTES, ReceiveCredit
from transport.interface import NodeId
from transport.windows import ALWAYS_BYTES, Windows

MIB = 1 << 20
A, B, C = (NodeId(bytes([value]) * 32) for value in (1, 2, 3))


def grown(windows: Windows, node: NodeId) -> ReceiveCredit:
    """A stream whose consumer takes as fast as it comes."""
    credit = windows.credit(node)
    for _ in range(300):
        credit.arrived(16384)
        credit.taken(16384)
    return credit


def held(credits: list[ReceiveCredit]) -> int:
    return sum(credit.window_bytes for credit in credits)


def test_lone_peer_holds_half_at_most() -> None:
    windows = Windows(MIB, 16 * MIB)
    credits = [grown(windows, A) for _ in range(30)]
    assert 7 * MIB <= held(credits) <= 8 * MIB + 30 * INITIAL_WINDOW_BYTES  # what they began with counts on top
    assert windows.used_bytes == held(credits)


def test_newcomer_grows_beside_a_greedy_peer() -> None:
    windows = Windows(MIB, 16 * MIB)
    [grown(windows, A) for _ in range(30)]
    assert held([grown(windows, B) for _ in range(30)]) >= 3 * MIB
    assert grown(windows, C).window_bytes >= MIB // 2


def test_peer_with_too_many_streams_is_refused_and_the_others_are_not() -> None:
    windows = Windows(MIB, 8 * MIB)
    credits: list[ReceiveCredit] = []
    while windows.has_room(A):
        credits.append(windows.credit(A))
    assert len(credits) <= 8 * MIB // INITIAL_WINDOW_BYTES // 2
    assert windows.has_room(B)
    credits[0].close()
    assert windows.has_room(A)


def test_few_streams_are_always_possible() -> None:
    windows = Windows(MIB, 0)
    credits: list[ReceiveCredit] = []
    while windows.has_room(A):
        credits.append(windows.credit(A))
    assert held(credits) == ALWAYS_BYTES


def test_everything_is_given_back() -> None:
    windows = Windows(MIB, 4 * MIB)
    credits = [grown(windows, node) for node in (A, B, C) for _ in range(5)]
    for credit in credits:
        credit.close()
        credit.close()
    assert windows.used_bytes == 0
    assert all(windows.has_room(node) for node in (A, B, C))


@given(st.lists(st.tuples(st.sampled_from((A, B, C)), st.booleans(), st.integers(0, 10)), max_size=80))
def test_what_grows_never_passes_the_budget(history: list[tuple[NodeId, bool, int]]) -> None:
    budget_bytes = 4 * MIB
    windows = Windows(MIB, budget_bytes)
    live: list[ReceiveCredit] = []
    for node, is_opening, choice in history:
        if is_opening and windows.has_room(node):
            live.append(grown(windows, node))
        elif live:
            live.pop(choice % len(live)).close()
        assert windows.used_bytes == held(live) <= budget_bytes + 3 * ALWAYS_BYTES
