"""The bytes of one client as they come: looked at, taken, passed on in pieces. Keeps what has come and no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from forms.errors import BadSyntax
from forms.held import Share

READ_BYTES = 256 << 10


@dataclass(slots=True)
class Inflow:
    """received: what has come and was not taken yet.  share: counts it, and what was taken, until `settle`."""

    reader: asyncio.StreamReader
    share: Share
    received: bytearray = field(default_factory=bytearray)
    _is_ended: bool = False

    async def more(self) -> bool:
        """Take in what has come; False at the end. Raises Busy."""
        piece = b"" if self._is_ended else await self.reader.read(READ_BYTES)
        self._is_ended = self._is_ended or not piece
        self.received += piece
        self.share.add(len(piece))
        return bool(piece)

    async def until(self, length: int) -> None:
        """Wait for so many bytes of a frame. Raises BadSyntax when they never come, Busy."""
        while len(self.received) < length:
            if not await self.more():
                raise BadSyntax("the connection ended within a frame")

    def take(self, length: int) -> bytes:
        """So many bytes, which have come."""
        taken = bytes(memoryview(self.received)[:length])
        del self.received[:length]
        return taken

    def settle(self) -> None:
        """What was taken is here no longer."""
        self.share.keep(len(self.received))

    async def pieces(self, length: int) -> AsyncIterator[bytes]:
        """So many bytes in all, each piece as it comes. Raises BadSyntax when they never come."""
        while length:
            await self.until(1)
            piece = self.take(min(length, len(self.received)))
            length -= len(piece)
            yield piece
            self.settle()
