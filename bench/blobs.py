"""One blob through a node's wire door and from node to node, and the memory it takes: `python -m bench.blobs --mb N`.

Two real agents on this machine: the first is put a blob and asked for it, the second pulls it. Beside each rate stands
how much the agent and its children grew. A bare SHA-256 of the same bytes is the floor: each is hashed once on arrival.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import struct
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil

from meshd.control import ControlClient
from meshd.local_agents import LocalAgent, local_agents

MB = 1_000_000
PIECE_BYTES = 1 << 20
LOOK_EVERY_S = 0.05
PULL_TIMEOUT_S = 600.0

T = TypeVar("T")


async def measure(size: int) -> None:
    """Print a line for each way that the blob goes."""
    print(f"{size / MB:.0f} MB; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    _hash(size)
    with tempfile.TemporaryDirectory() as folder:
        agents = local_agents(Path(folder))
        async with (
            agents.start("first") as first,
            agents.start("second", ["--join", await first.token("member")]) as second,
        ):
            await _through(first, second, size)


async def _through(first: LocalAgent, second: LocalAgent, size: int) -> None:
    host, _, port = (await first.status())["doors"]["bend"].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=PIECE_BYTES)
    digest = await _told("put at the wire door", first, size, lambda: _put(reader, writer, size))
    await _told("got from the wire door", first, size, lambda: _get(reader, writer, digest, size))
    control = ControlClient(second.directory / "control.sock", PULL_TIMEOUT_S)
    await _told(
        "pulled by another node",
        second,
        size,
        lambda: asyncio.to_thread(control.call, "blob_find", digest=digest.hex()),
    )
    writer.close()


async def _put(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int) -> bytes:
    piece = os.urandom(PIECE_BYTES)
    writer.write(struct.pack("<4sQ", b"BPUT", size))
    for _ in range(size // PIECE_BYTES):
        writer.write(piece)
        await writer.drain()
    return (await reader.readexactly(36))[4:]


async def _get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, digest: bytes, size: int) -> None:
    writer.write(b"BGET" + digest)
    await reader.readexactly(12)
    left = size
    while left:
        left -= len(await reader.read(PIECE_BYTES))


def _hash(size: int) -> None:
    piece, hasher = os.urandom(PIECE_BYTES), hashlib.sha256()
    begun = time.perf_counter()
    for _ in range(size // PIECE_BYTES):
        hasher.update(piece)
    print(f"{'SHA-256 alone':<24} {size / MB / (time.perf_counter() - begun):7.0f} MB/s")


async def _told(what: str, agent: LocalAgent, size: int, work: Callable[[], Awaitable[T]]) -> T:
    before, begun = _held_bytes(agent), time.perf_counter()
    most = before
    async with asyncio.TaskGroup() as group:

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, await asyncio.to_thread(_held_bytes, agent))
                await asyncio.sleep(LOOK_EVERY_S)

        watching = group.create_task(watch())
        result = await work()
        seconds = time.perf_counter() - begun
        watching.cancel()
    print(f"{what:<24} {size / MB / seconds:7.0f} MB/s, memory grew by {(most - before) / MB:.1f} MB at most")
    return result


def _held_bytes(agent: LocalAgent) -> int:
    process = psutil.Process(agent.child.pid)
    held = 0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            held += one.memory_info().rss
    return held


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=1024, help="mebibytes of the blob")
    asyncio.run(measure(parser.parse_args().mb << 20))


if __name__ == "__main__":
    main()
