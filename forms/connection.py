"""One client of the wire door: text and frames mixed, answered in order. Nothing is kept for what has not come.

The first byte of a request decides: `(` begins text, `B` a frame. Anything else is one error and the end, never a
search for something better: any web page can send bytes to this port.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from forms.catalogue import Catalogue
from forms.datum import Symbol
from forms.errors import BadSyntax, BeyondLimit, FormFailed, NotAuthenticated
from forms.evaluate import error_frame, error_line, head_of, ok_line
from forms.form import FRAME_LIMIT
from forms.frame import MAGIC_BYTES
from forms.reader import read_datum
from forms.text_framing import TextMeasure, decode_text, skip_white

logger = logging.getLogger("meshd.forms")

READ_BYTES = 256 << 10
UNFINISHED_S = 60.0
IDLE_S = 600.0
DRAIN_S = 1.0
MAX_LOGIN_BYTES = 4096


@dataclass(slots=True)
class Terms:
    """What every connection of a door is held to. keys: any one opens it; none: open to whoever reaches it."""

    catalogue: Catalogue
    answer_text: Callable[[bytes], Awaitable[bytes]]
    answer_frame: Callable[[bytes], Awaitable[bytes]]
    keys: tuple[str, ...] = ()
    limit_bytes: int = FRAME_LIMIT


class _Over(Exception):
    """The connection has to close. reply: what is said before."""

    def __init__(self, reply: bytes = b"") -> None:
        super().__init__()
        self.reply = reply


@dataclass(slots=True)
class Connection:
    """One client, from its first byte to its last."""

    terms: Terms
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    _received: bytearray = field(default_factory=bytearray)
    _is_ended: bool = False
    _is_admitted: bool = False

    async def serve(self) -> None:
        """Answer requests until the client ends, or must go. Ends quietly when the client vanishes."""
        self._is_admitted = not self.terms.keys
        try:
            while await self._begins():
                await self._answer_one()
        except _Over as over:
            await self._say_last(over.reply)
        except (TimeoutError, ConnectionError):
            logger.debug("a client of the wire door went away or fell silent")

    async def _begins(self) -> bool:
        """Wait for the first byte of a request; whether one comes."""
        async with asyncio.timeout(IDLE_S):
            while True:
                skip_white(self._received)
                if self._received:
                    return True
                if not await self._more():
                    return False

    async def _answer_one(self) -> None:
        first = self._received[:1]
        async with asyncio.timeout(UNFINISHED_S) as patience:
            if first == b"(":
                request = await self._take_text()
            elif first == b"B":
                request = await self._take_frame()
            else:
                raise _Over(error_line(BadSyntax("expected ( or a frame's magic; this is the wire port of bend")))
            patience.reschedule(None)
            reply = await (self._text_reply(request) if first == b"(" else self.terms.answer_frame(request))
            patience.reschedule(asyncio.get_running_loop().time() + UNFINISHED_S)
            await self._send(reply)

    async def _text_reply(self, request: bytes) -> bytes:
        if not self._is_admitted or request.lstrip().startswith(b"(auth"):
            return self._login(request)
        return await self.terms.answer_text(request)

    def _login(self, request: bytes) -> bytes:
        try:
            name, arguments = head_of(read_datum(decode_text(request)))
            given = str(arguments[0]) if len(arguments) == 1 else ""
            if name == "auth" and any(hmac.compare_digest(given.encode(), key.encode()) for key in self.terms.keys):
                self._is_admitted = True
                return ok_line(Symbol("auth"))
        except FormFailed as error:
            raise _Over(error_line(error)) from error
        if name == "auth" and not self.terms.keys:
            return ok_line(Symbol("auth"))
        raise _Over(error_line(NotAuthenticated('this node wants a key first: (auth "KEY")')))

    async def _take_text(self) -> bytes:
        measure = TextMeasure(self.terms.limit_bytes if self._is_admitted else MAX_LOGIN_BYTES)
        try:
            while (length := measure.advance(self._received)) is None:
                if not await self._more():
                    raise _Over(error_line(BadSyntax("the connection ended within a datum")))
        except FormFailed as error:
            raise _Over(error_line(error)) from error
        return self._take(length)

    async def _take_frame(self) -> bytes:
        if not self._is_admitted:
            raise _Over(error_frame(NotAuthenticated('this node wants a key first: (auth "KEY")')))
        try:
            await self._until(MAGIC_BYTES)
            measure = self.terms.catalogue.of_magic(bytes(self._received[:MAGIC_BYTES])).measure(self.terms.limit_bytes)
            while (needed := measure.advance(self._received)) > len(self._received):
                await self._until(needed)
        except FormFailed as error:
            raise _Over(error_frame(error)) from error
        return self._take(needed)

    async def _until(self, length: int) -> None:
        if length > self.terms.limit_bytes + MAGIC_BYTES:
            raise BeyondLimit(f"a frame of {length} bytes; the limit is {self.terms.limit_bytes}")
        while len(self._received) < length:
            if not await self._more():
                raise BadSyntax("the connection ended within a frame")

    def _take(self, length: int) -> bytes:
        request = bytes(memoryview(self._received)[:length])
        del self._received[:length]
        return request

    async def _more(self) -> bool:
        """Take in what has come; False at the end."""
        piece = b"" if self._is_ended else await self.reader.read(READ_BYTES)
        self._is_ended = self._is_ended or not piece
        self._received += piece
        return bool(piece)

    async def _send(self, reply: bytes) -> None:
        self.writer.write(reply)
        await self.writer.drain()

    async def _say_last(self, reply: bytes) -> None:
        """Say it, and read on for a moment: a close with unread bytes would be a reset that takes the reply with it."""
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(DRAIN_S):
                await self._send(reply)
                if self.writer.can_write_eof():
                    self.writer.write_eof()
                while await self.reader.read(READ_BYTES):
                    pass
