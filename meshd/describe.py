"""Tells the mesh about this host: the facts `sys` and `gpu`, again when they have changed enough to matter."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import msgspec

from gossip.facts import GPU, SYSTEM, Device, GpuFact, SystemFact
from meshd.hardware import read_system
from meshd.memory import HostMemory, Usage
from transport.wire import encode

Publish = Callable[[str, bytes], None]

SAMPLE_INTERVAL_S = 5.0
SHORTEST_INTERVAL_S = 0.2
SYSTEM_INTERVAL_S = 30.0
WORTH_TELLING = 0.05


def is_worth_telling(before: GpuFact | None, now: GpuFact) -> bool:
    """Whether devices came or went, or what is free, or held for one use, moved by more than 5 % of a device.

    A model that came or went is told however small it is, so that no bar lacks it; a form's call is not.
    """
    if before is None or [_fixed(one) for one in before.devices] != [_fixed(one) for one in now.devices]:
        return True
    return any(_has_moved(old, new) for old, new in zip(before.devices, now.devices, strict=True))


def _has_moved(old: Device, new: Device) -> bool:
    changed_bytes = [abs(before - now) for before, now in zip(_amounts(old), _amounts(new), strict=True)]
    return bool(old.uses.weights) != bool(new.uses.weights) or max(changed_bytes) > WORTH_TELLING * new.total_bytes


def _amounts(device: Device) -> tuple[int, ...]:
    return device.free_bytes, *msgspec.structs.astuple(device.uses)


def _fixed(device: Device) -> tuple[str, str, int]:
    return device.name, device.kind, device.total_bytes


async def describe_host(publish: Publish, memory: HostMemory) -> None:
    """Keep the ledger in step with the drivers, and publish, until cancelled."""
    started = time.monotonic()
    told: GpuFact | None = None
    told_system_at = float("-inf")
    while True:
        system, usage = await asyncio.to_thread(_sample, started, memory)
        memory.reconcile(usage)
        devices = memory.fact()
        if is_worth_telling(told, devices):
            publish(GPU, encode(devices))
            told = devices
        if time.monotonic() - told_system_at >= SYSTEM_INTERVAL_S:
            publish(SYSTEM, encode(system))
            told_system_at = time.monotonic()
        await _interval_or_change(memory)


async def _interval_or_change(memory: HostMemory) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SAMPLE_INTERVAL_S):
            await memory.changed()
    await asyncio.sleep(SHORTEST_INTERVAL_S)


def _sample(started: float, memory: HostMemory) -> tuple[SystemFact, Usage]:
    return read_system(started), memory.usage()
