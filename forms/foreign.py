"""Asks workers that are no nodes of the mesh, over the wire door's own protocol: lumbda's, or a meshd elsewhere.

Nothing is known of them but what they answer. Their text and frames are those of bend's page.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from forms.datum import Datum, Symbol
from forms.errors import (
    BadSyntax,
    BeyondLimit,
    Busy,
    FormFailed,
    NotAuthenticated,
    UnknownOperation,
    WorkerLost,
)
from forms.form import FRAME_LIMIT
from forms.reader import read_datum
from forms.request import Request
from forms.text_framing import TextMeasure, decode_text, skip_white
from forms.writer import write_datum
from transport.address import format_address
from transport.interface import Address

READ_BYTES = 256 << 10
CONNECT_S = 2.0
PROBE_S = 2.0
CLOSE_S = 1.0
ERROR_HEAD = struct.Struct("<4sII")
MAX_ERROR_BYTES = 64 << 10
WANTS_KEY = "it wants a key: give it in the file of --bend-worker-key-file"


@dataclass(frozen=True, slots=True)
class ForeignWorker:
    """A worker in no mesh. key: what its door wants to hear first; empty where it wants none. Crosses in clear."""

    address: Address
    key: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"the worker at {format_address(self.address)}"


async def ask_foreign(worker: ForeignWorker, request: Request, reply_bytes: int, deadline_s: float) -> bytes:
    """The worker's reply to `request`. reply_bytes: of a frame, without which its end could not be known.

    Raises WorkerLost when it is gone, Busy, UnknownOperation for a form that it does not have.
    """
    try:
        async with asyncio.timeout(deadline_s), _connected(worker) as (reader, writer):
            writer.write(request.payload)
            await writer.drain()
            reply = await _text(reader) if request.is_text else await _frame(reader, reply_bytes)
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        raise WorkerLost(f"{worker}: {reason}") from error
    except FormFailed as error:
        raise WorkerLost(f"{worker} sent no reply: {error}") from error
    _raise_refusal(request, reply, worker)
    return reply


async def probe_foreign(worker: ForeignWorker) -> int:
    """The worker's free VRAM in bytes, by `(health)`; none where it does not know the question. Raises WorkerLost."""
    try:
        async with asyncio.timeout(PROBE_S), _connected(worker) as (reader, writer):
            writer.write(b"(health)")
            await writer.drain()
            return _free_vram(read_datum(decode_text(await _text(reader))))
    except (OSError, TimeoutError, FormFailed) as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        raise WorkerLost(f"{worker}: {reason}") from error


def _free_vram(said: Datum) -> int:
    match said:
        case [Symbol() as ok, *pairs] if ok == Symbol("ok"):
            found = {str(pair[0]): pair[1] for pair in pairs if isinstance(pair, list) and len(pair) == 2}
            free_mb = found.get("vram-free-mb", 0)
            return int(free_mb) << 20 if isinstance(free_mb, int) and 0 <= free_mb < 1 << 40 else 0
        case [Symbol() as error, [Symbol() as kind, *_]] if (error, kind) == (Symbol("error"), Symbol("unknown-op")):
            return 0
        case [Symbol() as error, [Symbol() as kind, *_]] if (error, kind) == (Symbol("error"), Symbol("auth")):
            raise FormFailed(WANTS_KEY)
        case _:
            raise FormFailed("it answered (health) with something else")


@asynccontextmanager
async def _connected(worker: ForeignWorker) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with asyncio.timeout(CONNECT_S):
        reader, writer = await asyncio.open_connection(worker.address.host, worker.address.port, limit=READ_BYTES)
    try:
        if worker.key:
            await _log_in(reader, writer, worker.key)
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await writer.wait_closed()


async def _log_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
    """Say the key, which the door answers before anything else. Raises NotAuthenticated."""
    writer.write(write_datum([Symbol("auth"), key]).encode())
    await writer.drain()
    said = read_datum(decode_text(await _text(reader)))
    if said != [Symbol("ok"), Symbol("auth")]:
        # What it says is not repeated: a program that takes (auth …) for something else may echo the key.
        raise NotAuthenticated("it did not take the key that --bend-worker-key-file has for it")


async def _text(reader: asyncio.StreamReader) -> bytes:
    """One datum and a newline."""
    measure, received = TextMeasure(FRAME_LIMIT), bytearray()
    while True:
        skip_white(received)
        if received and (length := measure.advance(received)) is not None:
            return bytes(received[:length]) + b"\n"
        piece = await reader.read(READ_BYTES)
        if not piece:
            raise BadSyntax("the connection ended within a datum")
        received += piece


async def _frame(reader: asyncio.StreamReader, reply_bytes: int) -> bytes:
    magic = await reader.readexactly(4)
    if magic != b"BERR":
        return magic + await reader.readexactly(reply_bytes - 4)
    head = magic + await reader.readexactly(ERROR_HEAD.size - 4)
    _, _, length = ERROR_HEAD.unpack(head)
    if length > MAX_ERROR_BYTES:
        raise BeyondLimit(f"an error of {length} bytes")
    return head + await reader.readexactly(length)


def _raise_refusal(request: Request, reply: bytes, worker: ForeignWorker) -> None:
    """Raise what says that another worker may do better; the call's own errors are replies."""
    if is_unknown_operation(reply):
        raise UnknownOperation(request.head)
    if reply.startswith(b"(error (busy") or reply[:8] == b"BERR\x06\0\0\0":
        raise Busy(f"{worker} is busy")
    if reply.startswith(b"(error (auth") or reply[:8] == b"BERR\x03\0\0\0":
        raise WorkerLost(f"{worker}: {WANTS_KEY}")
    if reply.startswith(b"(error (lost") or reply[:8] == b"BERR\x07\0\0\0":
        raise WorkerLost(f"{worker} lost the call")


def is_unknown_operation(reply: bytes) -> bool:
    """Whether whoever replied does not have the form."""
    in_frame = reply[:8] == b"BERR\x05\0\0\0" and b"there is no operation" in reply
    return in_frame or reply.startswith(b"(error (unknown-op ")
