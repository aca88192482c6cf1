"""This host's memory as everything here shares it: the ledger, kept in step with what the drivers say.

`usage` blocks for milliseconds (NVML, /proc): call it in a thread. The rest belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from gossip.facts import Device, GpuFact, Held
from llm.changes import Changes
from llm.memory.need import GPU_CONTEXT_BYTES
from llm.residency import UNKNOWN_MAKEUP, Makeup, Reservation
from meshd.hardware import Limits, nvidia_usage, read_devices
from meshd.ledger import Account, Ledger

logger = logging.getLogger("meshd.memory")


@dataclass(frozen=True, slots=True)
class Usage:
    """What the drivers say of each device. ours_bytes: in use by this agent's children; None where nobody can say."""

    devices: tuple[Device, ...]
    ours_bytes: tuple[int, ...] | None


class HostMemory:
    """`llm.engines.resident.Room`, and what gossip is told about it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._devices = read_devices(limits).devices
        self._ledger = Ledger([Account(one.name, one.kind, one.total_bytes) for one in self._devices])
        self._ledger.reconcile(others_of(Usage(self._devices, None), (0,) * len(self._devices)))
        self._changes = Changes()

    @property
    def free_bytes(self) -> int:
        return self._ledger.free_bytes

    @property
    def total_bytes(self) -> int:
        """What this node offers in all."""
        return sum(device.total_bytes for device in self._devices)

    @property
    def is_ram(self) -> bool:
        """Whether models are computed on the CPU, for want of a GPU."""
        return all(device.kind == "cpu" for device in self._devices)

    @property
    def context_bytes(self) -> int:
        """What GPUs take for being used at all, whatever runs on them."""
        return GPU_CONTEXT_BYTES * sum(device.kind == "cuda" for device in self._devices)

    @property
    def reservations(self) -> tuple[Reservation, ...]:
        return self._ledger.reservations

    def held_by(self, holder: str) -> int:
        """Bytes that are reserved for `holder` now."""
        return sum(one.total_bytes for one in self._ledger.reservations if one.holder == holder)

    def reserve(self, holder: str, need_bytes: int, makeup: Makeup = UNKNOWN_MAKEUP) -> Reservation:
        """Raises NoRoom."""
        reservation = self._ledger.reserve(holder, need_bytes, makeup)
        self._changes.notify()
        return reservation

    def reserve_on(
        self, device: str, holder: str, need_bytes: int, makeup: Makeup = UNKNOWN_MAKEUP
    ) -> Reservation | None:
        """Hold memory of "cpu" or of "cuda:0", …; None where the ledger has no such device. Raises NoRoom."""
        kind, _, ordinal = device.partition(":")
        places = [number for number, one in enumerate(self._devices) if one.kind == kind]
        if int(ordinal or 0) >= len(places):
            return None
        reservation = self._ledger.reserve_on(places[int(ordinal or 0)], holder, need_bytes, makeup)
        self._changes.notify()
        return reservation

    def take_over(self, holder: str, held_bytes: int) -> Reservation:
        """Hold for `holder` what it has in use already, so that it is no longer other programs'."""
        reservation = self._ledger.take_over(holder, held_bytes)
        self._changes.notify()
        return reservation

    def release(self, reservation: Reservation) -> None:
        self._ledger.release(reservation)
        self._changes.notify()

    async def changed(self) -> None:
        """Wait until something is next reserved or released."""
        await self._changes.wait()

    def usage(self) -> Usage:
        """What is in use now. Blocks."""
        devices = read_devices(self._limits).devices
        pids = _children()
        ours = nvidia_usage(pids) if not self.is_ram else (sum(_anonymous_bytes(pid) for pid in pids),)
        return Usage(devices, ours[: len(devices)] if ours is not None else None)

    def reconcile(self, usage: Usage) -> None:
        """Take over what others hold. A device that came or went counts from the next start."""
        if [_fixed(one) for one in usage.devices] != [_fixed(one) for one in self._devices]:
            logger.warning("this host's devices are not those of the agent's start: restart meshd to use them")
            return
        self._ledger.reconcile(others_of(usage, self._ledger.reserved_by_device))

    async def look_again(self) -> None:
        """Read what is in use now, and take it over."""
        self.reconcile(await asyncio.to_thread(self.usage))

    def fact(self) -> GpuFact:
        """The fact `gpu`: free is what could still be reserved."""
        free, held = self._ledger.free_by_device, held_by_device(self._ledger.reservations, len(self._devices))
        return GpuFact(
            tuple(
                Device(device.name, device.kind, device.total_bytes, left, uses)
                for device, left, uses in zip(self._devices, free, held, strict=True)
            )
        )


def held_by_device(reservations: Sequence[Reservation], devices: int) -> list[Held | None]:
    """What is reserved of each device by what it is for; None where nothing is. Pure."""
    sums: list[Counter[str]] = [Counter() for _ in range(devices)]
    for reservation in reservations:
        for number, uses in enumerate(sums):
            uses.update(reservation.uses(number))
    return [Held(**uses) if any(uses.values()) else None for uses in sums]


def others_of(usage: Usage, reserved_bytes: Sequence[int]) -> Sequence[int]:
    """What of each device this node cannot use, because other programs do. Pure.

    reserved_bytes: for this agent's own children. Where nobody can say what these use, it is that: otherwise a model
    would count twice, as ours and as a stranger's.
    """
    ours_bytes = usage.ours_bytes if usage.ours_bytes is not None else reserved_bytes
    return [
        device.total_bytes - min(device.total_bytes, device.free_bytes + ours)
        for device, ours in zip(usage.devices, ours_bytes, strict=True)
    ]


def _fixed(device: Device) -> tuple[str, str, int]:
    return device.name, device.kind, device.total_bytes


def _children() -> list[int]:
    with contextlib.suppress(psutil.Error):
        return [child.pid for child in psutil.Process().children(recursive=True)]
    return []


def _anonymous_bytes(pid: int) -> int:
    """Memory that only this process has. Mapped model files are not in it: the kernel counts them as available."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) << 10
    return 0
