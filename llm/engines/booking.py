"""The memory of a server that is not our child, in this host's ledger: booked while it runs, whoever began it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from llm.engines.resident import Residence, Tenant
from llm.residency import Reservation

FREED_S = 10.0
"""How long memory may take to be seen free once its holder has ended."""
LOOK_INTERVAL_S = 0.25


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """What such servers share with this host's models. take_over: books what a server has in use already.

    look_again: reads what is really in use.
    """

    residence: Residence
    take_over: Callable[[str, int], Reservation]
    look_again: Callable[[], Awaitable[None]]


class Booking:
    """One server's part of the ledger."""

    def __init__(self, memory: SharedMemory) -> None:
        self._memory = memory
        self._held: Reservation | None = None

    @property
    def held_bytes(self) -> int:
        return self._held.total_bytes if self._held is not None else 0

    async def gain(self, tenant: Tenant) -> None:
        """Book what `tenant` needs before it begins; others make room, or are waited for."""
        held = await self._memory.residence.reserve(tenant)
        if held is not None:
            self._hold(held)

    def keep(self, tenant: Tenant) -> None:
        """Book what `tenant` needs as in use by now."""
        self._hold(None)
        self._held = self._memory.take_over(tenant.name, tenant.need_bytes)

    def end(self) -> None:
        """Book nothing any more."""
        self._hold(None)

    def end_of_request(self) -> None:
        """The server may have become idle, so that it could make room."""
        self._memory.residence.notify()

    async def freed(self, end: Callable[[], Awaitable[None]]) -> None:
        """Have `end` end the server, and wait until the drivers see its memory free, or longer than that can take."""
        free_bytes = self._memory.residence.room.free_bytes + self.held_bytes
        await end()
        with suppress(TimeoutError):
            async with asyncio.timeout(FREED_S):
                # What was read before may be from before the server took its memory.
                await self._memory.look_again()
                while self._memory.residence.room.free_bytes < free_bytes:
                    await asyncio.sleep(LOOK_INTERVAL_S)
                    await self._memory.look_again()

    def _hold(self, reservation: Reservation | None) -> None:
        before, self._held = self._held, reservation
        if before is not None:
            self._memory.residence.room.release(before)
            self._memory.residence.notify()
