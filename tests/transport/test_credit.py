"""Windows grow with a consumer that takes, stop with one that does not, and stay within the budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.credit import (
    INITIAL_WINDOW_BYTES,
    MAX_CREDIT_BYTES,
    ReceiveCredit,
    SendCredit,
    WindowBudget,
    cost_bytes,
    decode_grant,
    encode_grant,
)
from transport.errors import ProtocolError
from transport.interface import MAX_RECORD_BYTES

MIB = 1 << 20


def test_nothing_is_granted_until_something_is_taken() -> None:
    credit = ReceiveCredit(WindowBudget())
    credit.arrived(INITIAL_WINDOW_BYTES)
    with pytest.raises(ProtocolError):
        credit.arrived(1)


def test_window_doubles_up_to_its_limit_while_the_consumer_takes() -> None:
    credit = ReceiveCredit(WindowBudget(), limit_bytes=MIB)
    for _ in range(1000):
        credit.arrived(8192)
        credit.taken(8192)
    assert credit.window_bytes == MIB


def test_small_exchange_needs_no_grant() -> None:
    credit = ReceiveCredit(WindowBudget())
    for _ in range(50):
        credit.arrived(cost_bytes(b"x" * 100))
        assert credit.taken(cost_bytes(b"x" * 100)) == 0


def test_budget_is_shared_and_given_back() -> None:
    budget = WindowBudget(limit_bytes=MIB)
    greedy = [ReceiveCredit(budget) for _ in range(4)]
    for credit in greedy:
        for _ in range(200):
            credit.arrived(16384)
            credit.taken(16384)
    assert budget.used_bytes == MIB
    assert all(credit.window_bytes >= INITIAL_WINDOW_BYTES for credit in greedy)
    for credit in greedy:
        credit.close()
        credit.close()
    assert budget.used_bytes == 0


def test_spent_budget_still_lets_every_stream_move() -> None:
    budget = WindowBudget(limit_bytes=0)
    credit, sender = ReceiveCredit(budget), SendCredit()
    for _ in range(500):
        assert sender.has_room
        sender.spend(8192)
        credit.arrived(8192)
        sender.grant(credit.taken(8192))
    assert credit.window_bytes == INITIAL_WINDOW_BYTES


@given(st.lists(st.integers(0, MAX_RECORD_BYTES), min_size=1, max_size=60), st.integers(INITIAL_WINDOW_BYTES, 4 * MIB))
def test_no_sequence_of_record_sizes_can_deadlock_or_overrun(sizes: list[int], limit: int) -> None:
    budget = WindowBudget()
    receiver, sender = ReceiveCredit(budget, limit), SendCredit()
    waiting: list[int] = []
    for size in sizes:
        cost = cost_bytes(bytes(size))
        while not sender.has_room:
            assert waiting, "a sender without credit and a consumer with nothing to take"
            sender.grant(receiver.taken(waiting.pop(0)))
        sender.spend(cost)
        receiver.arrived(cost)
        waiting.append(cost)
        # What is held here: at most the window and one record more.
        assert sum(waiting) <= receiver.window_bytes + cost_bytes(bytes(MAX_RECORD_BYTES))


def test_grant_beyond_reason_is_refused() -> None:
    credit = SendCredit()
    with pytest.raises(ProtocolError):
        credit.grant(MAX_CREDIT_BYTES)


def test_grant_has_four_bytes() -> None:
    assert decode_grant(encode_grant(70000)) == 70000
    with pytest.raises(ProtocolError):
        decode_grant(b"\x00" * 5)
