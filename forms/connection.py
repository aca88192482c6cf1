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

from forms.blob_frame import GET, GET_FRAME, PUT, PUT_HEAD, asked_digest, blob_head, put_length, stored_frame
from forms.blobs import FormBlobs
from forms.catalogue import Catalogue
from forms.datum import Symbol
from forms.errors import BadSyntax, BeyondLimit, Busy, FormFailed, NotAuthenticated
from forms.evaluate import error_frame, error_line, head_of, ok_line
from forms.form import FRAME_LIMIT
from forms.frame import MAGIC_BYTES
from forms.held import Held
from forms.inflow import READ_BYTES, Inflow
from forms.reader import MAX_TEXT_BYTES, read_datum
from forms.request import BEND
from forms.text_framing import TextMeasure, decode_text, skip_white

logger = logging.getLogger("meshd.forms")

UNFINISHED_S = 60.0
IDLE_S = 600.0
DRAIN_S = 1.0
MAX_LOGIN_BYTES = 4096
SLOWEST_BYTES_PER_S = 1 << 20
"""Of a blob: a gibibyte may take a quarter of an hour on top of the minute that any request has."""


@dataclass(slots=True)
class Terms:
    """What every connection of a door is held to. keys: any one opens it; none: open to whoever reaches it."""

    catalogue: Catalogue
    answer_text: Callable[[bytes], Awaitable[bytes]]
    answer_frame: Callable[[bytes], Awaitable[bytes]]
    bend_frame: Callable[[bytes], Awaitable[bytes]]
    keys: tuple[str, ...] = ()
    limit_bytes: int = FRAME_LIMIT
    blobs: FormBlobs | None = None
    held: Held = field(default_factory=Held)


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
    _inflow: Inflow = field(init=False)
    _is_admitted: bool = False

    def __post_init__(self) -> None:
        self._inflow = Inflow(self.reader, self.terms.held.share())

    async def serve(self) -> None:
        """Answer requests until the client ends, or must go. Ends quietly when the client vanishes."""
        self._is_admitted = not self.terms.keys
        try:
            while await self._begins():
                await self._answer_one()
                self._inflow.settle()
        except _Over as over:
            await self._say_last(over.reply)
        except Busy as error:
            is_frame = self._inflow.received[:1] == b"B"
            await self._say_last(error_frame(error) if is_frame else error_line(error))
        except OSError as error:  # TimeoutError is one; a socket that was reset may say ENOTCONN, no ConnectionError
            logger.debug("a client of the wire door went away or fell silent: %s", error)
            self.writer.transport.abort()
        finally:
            self._inflow.share.keep(0)

    async def _begins(self) -> bool:
        """Wait for the first byte of a request; whether one comes."""
        async with asyncio.timeout(IDLE_S if self._is_admitted else UNFINISHED_S):
            while True:
                skip_white(self._inflow.received)
                if self._inflow.received:
                    return True
                if not await self._inflow.more():
                    return False

    async def _answer_one(self) -> None:
        match bytes(self._inflow.received[:1]):
            case b"(":
                async with asyncio.timeout(UNFINISHED_S):
                    request = await self._take_text()
                await self._reply(await self._text_reply(request), error_line)
            case b"B":
                await self._answer_frame()
            case _:
                raise _Over(error_line(BadSyntax("expected ( or a frame's magic; this is the wire port of bend")))

    # Text

    async def _take_text(self) -> bytes:
        limit_bytes = min(self.terms.limit_bytes, MAX_TEXT_BYTES) if self._is_admitted else MAX_LOGIN_BYTES
        measure = TextMeasure(limit_bytes)
        try:
            while (length := measure.advance(self._inflow.received)) is None:
                if not await self._inflow.more():
                    raise _Over(error_line(BadSyntax("the connection ended within a datum")))
        except FormFailed as error:
            raise _Over(error_line(error)) from error
        return self._inflow.take(length)

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

    # Frames

    async def _answer_frame(self) -> None:
        if not self._is_admitted:
            raise _Over(error_frame(NotAuthenticated('this node wants a key first: (auth "KEY")')))
        frame: bytes | None
        try:
            async with asyncio.timeout(UNFINISHED_S):
                await self._inflow.until(MAGIC_BYTES)
                magic = bytes(self._inflow.received[:MAGIC_BYTES])
                answer = self.terms.answer_frame
                if magic == BEND:
                    answer = self.terms.bend_frame
                    magic = await self._behind_bend()
                frame = await self._take_frame(magic)
        except FormFailed as error:
            raise _Over(error_frame(error)) from error
        if frame is None:
            return
        match magic:
            case b"BPUT":
                await self._put_blob(put_length(frame))
            case b"BGET":
                await self._get_blob(frame)
            case _:
                await self._reply(await answer(frame), error_frame)

    async def _behind_bend(self) -> bytes:
        """The magic of the frame that is to run wherever it finishes first. Raises FormFailed."""
        self._inflow.take(MAGIC_BYTES)
        await self._inflow.until(MAGIC_BYTES)
        magic = bytes(self._inflow.received[:MAGIC_BYTES])
        if magic in (PUT, GET):
            raise BadSyntax("BEND stands before the frame of a form")
        return magic

    async def _take_frame(self, magic: bytes) -> bytes | None:
        """The next frame; of one that puts a blob its head; None for one that was refused by its head, and is passed.

        Raises FormFailed.
        """
        if self.terms.blobs is not None and magic in (PUT, GET):
            length = PUT_HEAD.size if magic == PUT else GET_FRAME.size
            await self._inflow.until(length)
            return self._inflow.take(length)
        measure = self.terms.catalogue.of_magic(magic).measure(self.terms.limit_bytes)
        fault: FormFailed | None = None
        while True:
            needed = measure.advance(self._inflow.received)
            # A measure that `SeesFaults`; to ask isinstance costs a twentieth of the smallest calls.
            seen: FormFailed | None = getattr(measure, "fault", None)
            if fault is None and seen is not None:
                fault = seen
                await self._send(error_frame(fault))
            if needed <= len(self._inflow.received):
                frame = self._inflow.take(needed)
                return frame if fault is None else None
            self._check_length(needed)
            await self._inflow.until(needed)

    def _check_length(self, length: int) -> None:
        if length > self.terms.limit_bytes + MAGIC_BYTES:
            raise BeyondLimit(f"a frame of {length} bytes; the limit is {self.terms.limit_bytes}")

    # Blobs: neither is ever here as a whole

    async def _put_blob(self, size: int) -> None:
        """Take in the bytes that follow. A blob that has no room is refused at once, and its bytes are passed over."""
        left = size
        try:
            self._check_length(size)
        except BeyondLimit as error:
            raise _Over(error_frame(error)) from error
        async with asyncio.timeout(UNFINISHED_S + size / SLOWEST_BYTES_PER_S):
            try:
                async with self._blobs().taking_in(size) as incoming:
                    async for piece in self._inflow.pieces(size):
                        left -= len(piece)
                        await incoming.append(piece)
                    reply = stored_frame(await incoming.complete())
            except BadSyntax as error:
                raise _Over(error_frame(error)) from error
            except FormFailed as error:
                await self._send(error_frame(error))
                with suppress(BadSyntax):
                    async for _ in self._inflow.pieces(left):
                        pass
                return
        await self._send(reply)

    async def _get_blob(self, frame: bytes) -> None:
        is_begun = False
        try:
            async with self._blobs().giving_out(asked_digest(frame)) as outgoing:
                self._check_length(outgoing.size)
                await self._send(blob_head(outgoing.size))
                is_begun = True
                async for piece in outgoing.pieces():
                    await self._send(piece)
        except FormFailed as error:
            if is_begun:
                logger.error("a blob could not be read to its end: %s", error)
                raise _Over from error
            await self._send(error_frame(error))

    def _blobs(self) -> FormBlobs:
        assert self.terms.blobs is not None, "or their frames are unknown"
        return self.terms.blobs

    # Replies

    async def _reply(self, reply: bytes, refusal: Callable[[FormFailed], bytes]) -> None:
        """Say it, unless too much is waiting to be read already."""
        try:
            self._inflow.share.add(len(reply))
        except Busy as error:
            reply = refusal(error)
        await self._send(reply)

    async def _send(self, reply: bytes) -> None:
        """Say it, and wait until it was read but for what the sockets hold. Raises TimeoutError."""
        self.writer.write(reply)
        async with asyncio.timeout(UNFINISHED_S):
            await self.writer.drain()

    async def _say_last(self, reply: bytes) -> None:
        """Say it, and read on for a moment: a close with unread bytes would be a reset that takes the reply with it."""
        with suppress(OSError):
            async with asyncio.timeout(DRAIN_S):
                await self._send(reply)
                if self.writer.can_write_eof():
                    self.writer.write_eof()
                while await self.reader.read(READ_BYTES):
                    pass
