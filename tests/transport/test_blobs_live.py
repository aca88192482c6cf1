"""A blob over a real bulk lane, to a process that is killed half-way and started again."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.transport.quic_mesh import live_mesh, start
from transport.blob_message import BlobDigest
from transport.blob_store import BlobStore
from transport.blobs import Blobs
from transport.errors import MeshError
from transport.interface import Record, RecordKind, Stream
from transport.quic import QuicTransport

pytestmark = pytest.mark.live

SIZE = 320 << 20
WAIT_S = 60.0


def write_blob(path: Path) -> BlobDigest:
    """Bytes that differ everywhere, made quickly."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(SIZE >> 20):
            piece = hashlib.shake_128(number.to_bytes(4, "big")).digest(1 << 16) * 16
            file.write(piece)
            digest.update(piece)
    return BlobDigest(digest.digest())


class Source:
    """Serves blobs and counts the bytes it sent of them."""

    def __init__(self, transport: QuicTransport, blobs: Blobs) -> None:
        self.sent: Counter[str] = Counter()
        self._transport = transport
        self._blobs = blobs

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            async for stream in self._transport.streams():
                group.create_task(self._serve(stream))

    async def _serve(self, stream: Stream) -> None:
        send = stream.send

        async def counted(record: Record) -> None:
            await send(record)
            if record.kind is RecordKind.DATA:
                self.sent["bytes"] += len(record.payload)

        class Counted:
            peer, header = stream.peer, stream.header
            receive, finish, reset = stream.receive, stream.finish, stream.reset

            async def send(self, record: Record) -> None:
                await counted(record)

        try:
            await self._blobs.serve(Counted())
        except MeshError as error:
            self.sent[type(error).__name__] += 1


async def fetch(port: int, digest: BlobDigest, directory: Path, kill_at: int | None = None) -> list[str]:
    """Run the fetching process, and kill it as soon as it has `kill_at` bytes; what it printed."""
    arguments = ("fetch", "127.0.0.1:0", f"127.0.0.1:{port}", str(directory), digest.hex())
    command = ("-m", "tests.transport.blob_fetcher", *arguments)
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    lines: list[str] = []
    try:
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            async for line in process.stdout:
                lines.append(line.decode().strip())
                if kill_at is not None and int(lines[-1]) >= kill_at:
                    break
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    return lines


async def test_killed_half_way_a_fetch_resumes_and_sends_less_than_a_hundredth_again(tmp_path: Path) -> None:
    digest = write_blob(tmp_path / "model")
    store = BlobStore(tmp_path / "source", 0)
    store.lend(digest, tmp_path / "model")
    async with start(live_mesh().owner_now()) as owner, Blobs(owner, store) as blobs, asyncio.TaskGroup() as group:
        source = Source(owner, blobs)
        serving = group.create_task(source.run())
        port = owner.addresses[0].port
        first = await fetch(port, digest, tmp_path / "here", kill_at=SIZE // 2)
        assert int(first[-1]) < SIZE
        second = await fetch(port, digest, tmp_path / "here")
        serving.cancel()
    assert second[-2:] == [str(SIZE), "quic+bulk"]
    assert int(second[0]) >= SIZE // 2 * 0.98
    whole = tmp_path / "here" / digest.hex()
    with whole.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").digest() == digest
    assert SIZE <= source.sent["bytes"] < SIZE * 1.01
