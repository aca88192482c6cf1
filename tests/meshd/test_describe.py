"""What a host says of its devices, and when it says it again."""

from __future__ import annotations

import pytest

from gossip.facts import Device, GpuFact, Held
from llm.residency import Makeup, Reservation
from meshd.describe import is_worth_telling
from meshd.hardware import GIB, Limits, read_devices, read_system, within_limit
from meshd.memory import held_by_device


def card(free_gib: float, name: str = "card", total_gib: int = 24) -> Device:
    return Device(name, "cuda", total_gib * GIB, int(free_gib * GIB))


def test_the_first_description_is_told() -> None:
    assert is_worth_telling(None, GpuFact((card(20),)))


@pytest.mark.parametrize(("free_gib", "told"), [(20.0, False), (19.0, False), (18.7, True), (21.5, True)])
def test_free_memory_is_told_again_past_five_percent_of_a_device(free_gib: float, told: bool) -> None:
    assert is_worth_telling(GpuFact((card(20),)), GpuFact((card(free_gib),))) is told


def holding(**held_gib: float) -> GpuFact:
    held = {use: int(gib * GIB) for use, gib in held_gib.items()}
    return GpuFact((Device("card", "cuda", 24 * GIB, 12 * GIB, Held(**held) if held else None),))


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({"weights": 6}, {"weights": 6}, False),
        ({"weights": 6}, {"weights": 7}, False),
        ({"weights": 6}, {"weights": 7.5}, True),
        ({}, {"weights": 0.1}, True),
        ({"weights": 0.1}, {}, True),
        ({}, {"forms": 1}, False),
        ({}, {"forms": 2}, True),
        ({"weights": 4, "kv": 2}, {"weights": 4, "kv": 4}, True),
    ],
)
def test_what_is_held_is_told_again_past_five_percent_and_when_models_come_or_go(
    before: dict[str, float], now: dict[str, float], told: bool
) -> None:
    assert is_worth_telling(holding(**before), holding(**now)) is told


def test_what_models_and_forms_hold_is_told_by_device() -> None:
    toy, forms = (
        Reservation("toy", (60, 40, 0), Makeup(weights=50, kv=20)),
        Reservation("forms", (0, 8, 0), Makeup(forms=8)),
    )

    assert held_by_device([toy, forms], 3) == [
        Held(weights=30, kv=12, rest=18),
        Held(weights=20, kv=8, forms=8, rest=12),
        None,
    ]


def test_a_device_that_came_or_went_is_told() -> None:
    one, two = GpuFact((card(20),)), GpuFact((card(20), card(20, "other")))

    assert is_worth_telling(one, two)
    assert is_worth_telling(two, one)


def test_a_limit_cuts_the_later_devices_first() -> None:
    limited = within_limit((card(24), card(24, "second")), 30 * GIB)

    assert [(device.total_bytes // GIB, device.free_bytes // GIB) for device in limited] == [(24, 24), (6, 6)]


def test_no_limit_leaves_devices_whole() -> None:
    assert within_limit((card(1),), 0) == (card(1),)


def test_this_host_offers_something_and_never_more_than_the_limit() -> None:
    devices = read_devices(Limits(GIB)).devices

    assert devices
    assert sum(device.total_bytes for device in devices) <= GIB
    assert all(device.free_bytes <= device.total_bytes for device in devices)


def test_the_state_of_this_host_is_readable() -> None:
    system = read_system(started=0.0)

    assert system.cpu_count >= 1
    assert 0 < system.ram_free_bytes <= system.ram_total_bytes
