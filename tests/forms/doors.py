"""A node's forms behind its doors, in this process; the worker is a real one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from forms.blobs import FormBlobs
from forms.catalogue import AnyForm, shipped
from forms.connection import Terms
from forms.held import Held
from forms.here import Here, bring_nothing
from forms.http_door import HttpDoor
from forms.operations import Health, Operations
from forms.wire_door import WireDoor
from forms.worker import Worker
from meshd.http_server import serve_http

DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Doors:
    """Where to ask. worker: what computes."""

    wire_port: int
    http: str
    worker: Worker

    async def connect(self) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self.wire_port))


@dataclass(frozen=True, slots=True)
class Client:
    """One connection to the wire door."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def line(self) -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.readline()

    async def exactly(self, length: int) -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.readexactly(length)

    async def rest(self) -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.read()

    async def ask(self, text: str) -> str:
        await self.send(text.encode())
        return (await self.line()).decode().strip()


def listener() -> socket.socket:
    opened = socket.socket()
    opened.bind(("127.0.0.1", 0))
    opened.listen()
    return opened


@asynccontextmanager
async def doors(
    *,
    keys: tuple[str, ...] = (),
    limit_bytes: int = 1 << 24,
    origins: tuple[str, ...] = (),
    folder: Path = Path("/nonexistent"),
    blobs: FormBlobs | None = None,
    more: Sequence[AnyForm] = (),
    held: Held | None = None,
) -> AsyncIterator[Doors]:
    """folder: that of the worker's circuits, also of `blobs`."""
    worker = Worker(folder, limit_bytes)
    here = Here(shipped(more), worker, bring=blobs.bring if blobs is not None else bring_nothing)
    operations = Operations(here, lambda: Health(0.42, 22777, 1780752288371))
    answers = operations.answer_text, operations.answer_frame, operations.bend_frame
    terms = Terms(operations.catalogue, *answers, keys, limit_bytes, blobs, held or Held())
    http = HttpDoor(operations.answer_text, limit_bytes, keys, origins, held=held or Held())
    with listener() as wire_listener, listener() as http_listener:
        accepting = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(worker.run()),
                group.create_task(WireDoor(terms).run(wire_listener)),
                group.create_task(serve_http(http, http_listener, accepting)),
            ]
            await accepting.wait()
            url = f"http://127.0.0.1:{http_listener.getsockname()[1]}"
            yield Doors(wire_listener.getsockname()[1], url, worker)
            for task in reversed(tasks):
                task.cancel()
