"""The ledger never promises a byte twice, and says why it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.residency import Makeup, NoRoom, Reservation
from meshd.ledger import Account, Ledger

GB = 10**9


def ledger(*totals_gb: int) -> Ledger:
    return Ledger([Account(f"GPU {number}", "cuda", total * GB) for number, total in enumerate(totals_gb)])


def test_the_published_pool_a_model_and_a_voice_leave_the_rest_to_forms() -> None:
    """foxhop's 24 GB table: a 16.8 GB model and a 3.3 GB speech service."""
    book = ledger(24)
    model = book.reserve("qwen", 168 * GB // 10)
    book.reserve("speech", 33 * GB // 10)
    assert book.free_bytes == 39 * GB // 10
    with pytest.raises(NoRoom, match=r"shor needs 8.00 GB; of 24.00 GB other programs hold 0.00 GB .* leaves 3.90 GB"):
        book.reserve("shor", 8 * GB)
    book.release(model)
    assert book.reserve("shor", 8 * GB).total_bytes == 8 * GB


def test_what_other_programs_hold_is_not_ours_to_promise() -> None:
    book = ledger(24)
    book.reconcile([10 * GB])
    with pytest.raises(NoRoom, match=r"other programs hold 10.00 GB"):
        book.reserve("model", 15 * GB)
    book.reconcile([0])
    book.reserve("model", 15 * GB)


def test_one_device_is_enough_where_it_is_the_fullest_that_fits() -> None:
    book = ledger(24, 8)
    assert book.reserve("small", 6 * GB).parts == (0, 6 * GB)
    assert book.reserve("large", 20 * GB).parts == (20 * GB, 0)


def test_larger_than_any_device_is_spread() -> None:
    assert ledger(24, 8).reserve("huge", 28 * GB).parts == (21 * GB, 7 * GB)


def test_two_launches_that_race_do_not_both_get_it() -> None:
    book = ledger(10)
    book.reserve("first", 6 * GB)
    with pytest.raises(NoRoom):
        book.reserve("second", 6 * GB)


def test_giving_back_twice_is_an_error() -> None:
    book = ledger(10)
    held = book.reserve("model", GB)
    book.release(held)
    with pytest.raises(KeyError):
        book.release(held)


def test_more_held_by_others_than_there_is_leaves_nothing() -> None:
    book = ledger(10)
    book.reserve("model", 8 * GB)
    book.reconcile([5 * GB])
    assert book.free_bytes == 0


def test_what_a_server_has_in_use_is_taken_over_from_others_and_not_counted_twice() -> None:
    book = ledger(24)
    book.reconcile([18 * GB])
    held = book.take_over("upstream qwen", 16 * GB)
    assert book.free_bytes == 6 * GB
    with pytest.raises(NoRoom, match=r"other programs hold 2.00 GB .* upstream qwen 16.00 GB"):
        book.reserve("model", 7 * GB)
    book.release(held)
    assert book.free_bytes == 6 * GB  # it is gone once the driver says so
    book.reconcile([2 * GB])
    assert book.free_bytes == 22 * GB


def test_what_a_server_will_use_is_taken_over_before_it_shows() -> None:
    book = ledger(8, 24)
    book.reconcile([1 * GB, 0])
    held = book.take_over("upstream qwen", 16 * GB)
    assert sum(held.parts) == 16 * GB
    assert book.free_bytes == (32 - 16) * GB
    book.reconcile([held.parts[0], held.parts[1]])
    assert book.free_bytes == (32 - 16) * GB


def test_a_server_larger_than_the_host_leaves_nothing_free() -> None:
    book = ledger(4, 4)
    held = book.take_over("upstream qwen", 16 * GB)
    assert book.free_bytes == 0
    book.release(held)
    assert book.free_bytes == 8 * GB


STEPS = st.lists(
    st.one_of(st.integers(1, 40), st.just("release"), st.lists(st.integers(0, 30), min_size=3, max_size=3))
)


@given(st.lists(st.integers(1, 30), min_size=3, max_size=3), STEPS)
def test_no_device_is_ever_promised_beyond_itself(totals: list[int], steps: list[int | str | list[int]]) -> None:
    book = Ledger([Account("x", "cuda", total) for total in totals])
    held: list[Reservation] = []
    for step in steps:
        match step:
            case int():
                free = book.free_bytes
                try:
                    held.append(book.reserve("m", step))
                except NoRoom:
                    assert step > free
                else:
                    assert held[-1].total_bytes == step <= free
                    assert book.free_bytes == free - step
            case "release":
                if held:
                    book.release(held.pop())
            case list(others):
                book.reconcile(others)
        for number, total in enumerate(totals):
            assert sum(one.parts[number] for one in held) <= total


def test_one_device_by_its_number_and_no_other() -> None:
    book = ledger(24, 8)
    assert book.reserve_on(1, "forms", 6 * GB).parts == (0, 6 * GB)
    with pytest.raises(NoRoom, match=r"forms needs 3.00 GB of GPU 1, where 2.00 GB are left"):
        book.reserve_on(1, "forms", 3 * GB)
    assert book.free_by_device == (24 * GB, 2 * GB)


def test_what_a_reservation_is_for_is_told_of_each_device_and_adds_up() -> None:
    spread = ledger(24, 8).reserve("huge", 28 * GB, Makeup(weights=20 * GB, kv=4 * GB))
    assert spread.uses(0) == {"weights": 15 * GB, "kv": 3 * GB, "forms": 0, "rest": 3 * GB}
    assert spread.uses(1) == {"weights": 5 * GB, "kv": GB, "forms": 0, "rest": GB}
    assert ledger(8).reserve("upstream", GB).uses(0)["rest"] == GB


def test_no_use_is_ever_more_than_what_is_held() -> None:
    held = ledger(8).reserve("a peer said so", 2 * GB, Makeup(weights=GB, kv=9 * GB))
    assert held.uses(0) == {"weights": GB, "kv": GB, "forms": 0, "rest": 0}
