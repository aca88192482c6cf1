"""The bulk lane beside bare TLS and plain TCP, our QUIC beside bare aioquic, in one run: python -m bench.bulk [--json].

One way between two processes over loopback, in pieces of 256 KiB, 64 MB and 1 GB of them: through a stream on the bulk
lane, through asyncio's streams over TLS 1.3 with the same certificates, through the same without TLS, through a stream
over QUIC and one of bare aioquic. The far end counts what came and answers. CPU is of both ends; RSS is the larger
end's at its most.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import platform
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass

import uvloop

from bench.row import Row
from bench.transport_streams import (
    BareChannel,
    Channel,
    OurChannel,
    bare,
    cpu_s,
    our_site,
    peak_rss_mb,
    serve_bare,
)
from transport.bulk import LaneIdentity
from transport.identity import NodeKey
from transport.interface import Address, LinkState, NodeId, StreamHeader
from transport.quic import QuicTransport

PIECE = bytes(256 << 10)
SIZES = {"64MB": 64 << 20, "1GB": 1 << 30}
QUIC_KINDS = ("QUIC", "aioquic")
QUIC_SIZES = ("64MB",)
"""A gigabyte through Python's QUIC takes half a minute and shows nothing new."""

READ_LIMIT_BYTES = 1 << 20
"""Of asyncio's reader; with its own 64 KiB bare TLS is slower."""

LOOPBACK = "127.0.0.1"
TIME_LIMIT_S = 180.0


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one transfer, or medians of several."""

    mb_per_s: float
    cpu_s_per_gb: float
    rss_mb: float


# The far end


async def count(channel: Channel) -> None:
    """Answer how many bytes came, and what that took here."""
    start = cpu_s()
    size = 0
    while data := await channel.read():
        size += len(data)
    await channel.write(b"%d %f %f" % (size, cpu_s() - start, peak_rss_mb()))
    await channel.finish()


async def serve_ours() -> None:
    site, _ = our_site(1)
    async with QuicTransport(site, Address(LOOPBACK, 0)) as transport, asyncio.TaskGroup() as group:
        print(transport.addresses[0].port, flush=True)
        async for stream in transport.streams():
            group.create_task(count(OurChannel(stream)))


async def serve_tcp(is_secret: bool) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await count(CountedChannel(reader, writer, await size_of(reader)))

    context = identities()[0].context(is_server=True, expected=[identities()[1].certificate]) if is_secret else None
    server = await asyncio.start_server(answer, LOOPBACK, 0, ssl=context, limit=READ_LIMIT_BYTES)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def size_of(reader: asyncio.StreamReader) -> int:
    return int.from_bytes(await reader.readexactly(8), "big")


class CountedChannel(BareChannel):
    """TLS of asyncio cannot say that one direction is over, so the first eight bytes say how much comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int) -> None:
        super().__init__(reader, writer)
        self.left = size

    async def read(self) -> bytes:
        data = await self.reader.read(min(self.left, len(PIECE))) if self.left else b""
        self.left -= len(data)
        return data

    async def finish(self) -> None:
        await self.writer.drain()


# The near end


async def push(channel: Channel, size: int) -> Figures:
    cpu_start, start = cpu_s(), time.perf_counter()
    for _ in range(size // len(PIECE)):
        await channel.write(PIECE)
    await channel.finish()
    counted, far_cpu_s, far_rss_mb = map(float, (await channel.read()).split())
    assert counted == size
    seconds = time.perf_counter() - start
    cpu_total_s = cpu_s() - cpu_start + far_cpu_s
    return Figures(size / 1e6 / seconds, cpu_total_s / (size / 1e9), max(far_rss_mb, peak_rss_mb()))


async def over_ours(port: int, size: int, *, bulk: bool) -> Figures:
    async with ours(port) as (transport, far):
        stream = await transport.open(far, StreamHeader("bench/1", "1"), bulk=bulk)
        assert transport.links()[0].carrier == ("quic+bulk" if bulk else "quic")
        return await push(OurChannel(stream), size)


@contextlib.asynccontextmanager
async def ours(port: int) -> AsyncIterator[tuple[QuicTransport, NodeId]]:
    site, far = our_site(2)
    async with QuicTransport(site, Address(LOOPBACK, 0)) as transport:
        transport.keep(far, (Address(LOOPBACK, port),))
        async for event in transport.events():
            if getattr(event, "state", None) is LinkState.CONNECTED:
                break
        yield transport, far


async def over_tcp(port: int, size: int, *, is_secret: bool) -> Figures:
    context = identities()[1].context(is_server=False, expected=[identities()[0].certificate]) if is_secret else None
    name = "" if is_secret else None
    reader, writer = await asyncio.open_connection(LOOPBACK, port, ssl=context, server_hostname=name)
    writer.write(size.to_bytes(8, "big"))
    try:
        return await push(CountedChannel(reader, writer, 1 << 20), size)
    finally:
        writer.close()


async def over_aioquic(port: int, size: int) -> Figures:
    async with bare(port) as open_channel:
        return await push(await open_channel(), size)


def identities() -> tuple[LaneIdentity, LaneIdentity]:
    """Both ends', which both processes derive alike."""
    one, two = (LaneIdentity(NodeKey(bytes([number]) * 32), 1.8e9) for number in (1, 2))
    return one, two


# The run

KINDS: dict[str, tuple[Callable[[], Awaitable[None]], Callable[[int, int], Awaitable[Figures]]]] = {
    "bulk": (serve_ours, lambda port, size: over_ours(port, size, bulk=True)),
    "TLS": (lambda: serve_tcp(True), lambda port, size: over_tcp(port, size, is_secret=True)),
    "TCP": (lambda: serve_tcp(False), lambda port, size: over_tcp(port, size, is_secret=False)),
    "QUIC": (serve_ours, lambda port, size: over_ours(port, size, bulk=False)),
    "aioquic": (lambda: serve_bare(count), over_aioquic),
}
COMPARED = (
    ("bulk", "TLS", ("bulk", "bare asyncio TLS", 0.8)),
    ("bulk", "TCP", ("bulk", "plain TCP", 0.0)),
    ("QUIC", "aioquic", ("quic", "bare aioquic", 0.9)),
)
"""Ours, the baseline, and how the row is called; 0 where no target was set."""


async def measure(kind: str, size: int, loop: str) -> Figures:
    """One transfer, near end and far end each in a process of its own, so that neither inherits memory."""
    far = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.bulk", "--loop", loop, "--serve", kind), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert far.stdout is not None
        port = (await far.stdout.readline()).decode().strip()
        near = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.bulk", "--loop", loop, "--push", kind, port, str(size)),
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(TIME_LIMIT_S):
            said, _ = await near.communicate()
        return Figures(**json.loads(said))
    finally:
        far.kill()
        await far.wait()


async def compare(loop: str, rounds: int, sizes: tuple[str, ...] = tuple(SIZES)) -> list[tuple[Row, Figures, Figures]]:
    """Medians over `rounds`, the kinds taking turns so that a busy machine slows all; each row with its figures."""
    rows: list[tuple[Row, Figures, Figures]] = []
    for size in sizes:
        kinds = [kind for kind in KINDS if kind not in QUIC_KINDS or size in QUIC_SIZES]
        taken: dict[str, list[Figures]] = {kind: [] for kind in kinds}
        for _ in range(rounds):
            for kind in kinds:
                taken[kind].append(await measure(kind, SIZES[size], loop))
        middle = {kind: median(figures) for kind, figures in taken.items()}
        for kind, baseline, (case, name, target) in COMPARED:
            if baseline in middle:
                mine, theirs = middle[kind], middle[baseline]
                ratio = mine.mb_per_s / theirs.mb_per_s
                row = Row(f"{case}-{size}", mine.mb_per_s, theirs.mb_per_s, name, ratio, "MB/s", "higher", target)
                rows.append((row, mine, theirs))
    return rows


def median(figures: list[Figures]) -> Figures:
    columns = zip(*(asdict(one).values() for one in figures), strict=True)
    return Figures(*map(statistics.median, columns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", choices=tuple(KINDS), help=argparse.SUPPRESS)
    parser.add_argument("--push", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    run = uvloop.run if options.loop == "uvloop" else asyncio.run
    if options.serve:
        run(KINDS[options.serve][0]())  # type: ignore[arg-type]
        return
    if options.push:
        kind, port, size = options.push
        print(json.dumps(asdict(run(KINDS[kind][1](int(port), int(size))))))  # type: ignore[arg-type]
        return
    rows = run(compare(options.loop, options.rounds))
    if options.json:
        document = {"name": "bulk", "machine": platform.node(), "rows": [as_row(*row) for row in rows]}
        print(json.dumps(document))
        return
    for row, ours_, theirs in rows:
        print(f"{row.case:9} {described(ours_)}   {row.baseline_name:17} {described(theirs)}   ratio {row.ratio:.2f}")


def as_row(row: Row, ours_: Figures, theirs: Figures) -> dict[str, object]:
    costs = {"ours_cpu_s_per_gb": ours_.cpu_s_per_gb, "ours_rss_mb": ours_.rss_mb}
    return asdict(row) | costs | {"baseline_cpu_s_per_gb": theirs.cpu_s_per_gb, "baseline_rss_mb": theirs.rss_mb}


def described(figures: Figures) -> str:
    return f"{figures.mb_per_s:7.1f} MB/s {figures.cpu_s_per_gb:5.2f} CPU s/GB {figures.rss_mb:4.0f} MB"


if __name__ == "__main__":
    main()
