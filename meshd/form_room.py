"""The memory of forms: reserved in the host's ledger, like that of models, before a worker takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from forms.errors import Busy
from llm.residency import Makeup, NoRoom, Reservation

LOOK_AGAIN_S = 2.0
"""How often a call that lacks memory looks whether another program has given some back."""


class Devices(Protocol):
    """The host's memory, device by device: `HostMemory`."""

    def reserve_on(self, device: str, holder: str, need_bytes: int, makeup: Makeup) -> Reservation | None:
        """None where that device's memory is nobody's to share out. Raises NoRoom."""

    def release(self, reservation: Reservation) -> None: ...

    async def changed(self) -> None:
        """Wait until something is next reserved or released."""


Displace = Callable[[Callable[[], bool]], Awaitable[bool]]
"""Takes whether it fits now; tells whether it does in the end."""


@dataclass(frozen=True, slots=True)
class FormRoom:
    """`forms.room.Room`, from the ledger. displace: ends idle lazy models until it fits; None leaves them alone."""

    memory: Devices
    displace: Displace | None = None

    @asynccontextmanager
    async def hold(self, device: str, size_bytes: int, deadline_s: float) -> AsyncIterator[None]:
        """Hold so much of a device while it lasts; waits for it until `deadline_s` of the loop's time. Raises Busy."""
        reservation = await self._reserve(device, size_bytes, deadline_s)
        try:
            yield
        finally:
            if reservation is not None:
                self.memory.release(reservation)

    async def _reserve(self, device: str, size_bytes: int, deadline_s: float) -> Reservation | None:
        loop = asyncio.get_running_loop()
        if self.displace is not None:
            await self.displace(lambda: self._fits(device, size_bytes))
        while True:
            try:
                return self.memory.reserve_on(device, _holder(device), size_bytes, Makeup(forms=size_bytes))
            except NoRoom as error:
                left_s = deadline_s - loop.time()
                if left_s <= 0:
                    raise Busy(str(error)) from error
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, LOOK_AGAIN_S)):
                    await self.memory.changed()

    def _fits(self, device: str, size_bytes: int) -> bool:
        try:
            reservation = self.memory.reserve_on(device, _holder(device), size_bytes, Makeup(forms=size_bytes))
        except NoRoom:
            return False
        if reservation is not None:
            self.memory.release(reservation)
        return True


def _holder(device: str) -> str:
    return f"forms on {device}"
