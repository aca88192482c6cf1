"""Which GPUs count, and whose memory is in use on them, where NVML and CUDA do not speak of the same."""

from __future__ import annotations

import pytest

from gossip.facts import Device
from meshd.hardware import GIB, shown_devices
from meshd.ledger import Account, Ledger
from meshd.memory import Usage, others_of

UUIDS = ("GPU-aa10", "GPU-bb20", "GPU-bb30")


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (None, [0, 1, 2]),
        ("1", [1]),
        ("2, 0", [2, 0]),
        ("GPU-bb3,0", [2, 0]),
        ("", []),
        ("-1", []),
        ("1,7,0", [1]),
        ("GPU-bb", []),
        ("1,1", [1]),
    ],
)
def test_only_gpus_that_cuda_shows_count_in_its_order(told: str | None, shown: list[int]) -> None:
    assert shown_devices(told, UUIDS) == shown


def used(gib: int, ours_gib: int | None) -> Usage:
    card = Device("card", "cuda", 100 * GIB, (100 - gib) * GIB)
    return Usage((card,), None if ours_gib is None else (ours_gib * GIB,))


@pytest.mark.parametrize(("ours_gib", "free_gib"), [(60, 25), (None, 25), (0, 0)])
def test_a_model_counts_once_also_where_nobody_can_say_whose_memory_it_is(ours_gib: int | None, free_gib: int) -> None:
    ledger = Ledger([Account("card", "cuda", 100 * GIB)])
    ledger.reserve("model", 60 * GIB)
    ledger.reconcile(others_of(used(75, ours_gib), ledger.reserved_by_device))
    assert ledger.free_bytes == free_gib * GIB


def test_what_was_taken_over_is_no_child_of_ours() -> None:
    ledger = Ledger([Account("card", "cuda", 100 * GIB)])
    ledger.reconcile(others_of(used(30, None), ledger.reserved_by_device))
    ledger.take_over("upstream", 20 * GIB)
    ledger.reserve("model", 40 * GIB)
    ledger.reconcile(others_of(used(70, None), ledger.reserved_by_device))
    assert ledger.free_bytes == 30 * GIB
