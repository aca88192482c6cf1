"""Streams of the QUIC transport beside bare aioquic, in one run: python -m bench.transport_streams [--json].

Both ends are processes of their own on loopback: 64-byte echoes, 64 token streams at 30 chunks a second each,
and 64 MB one way. Both sides use packets of 1,452 bytes, socket buffers of 4 MiB and the same event loop.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import platform
import random
import resource
import socket
import ssl
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import uvloop
from aioquic.asyncio.client import connect
from aioquic.asyncio.server import serve
from aioquic.quic.configuration import QuicConfiguration

from bench.row import Row
from transport.admission import Site
from transport.certificate import Membership, Signer, found_mesh, issue
from transport.identity import NodeKey, self_signed_certificate
from transport.interface import Address, LinkState, NodeId, Record, RecordKind, Role, Stream, StreamHeader
from transport.quic import QuicTransport
from transport.quic.udp import BUFFER_BYTES

ECHOES = 2000
STREAMS = 64
CHUNKS = 150
CHUNK_EVERY_S = 1 / 30
CHUNK_BYTES = 200
BULK_BYTES = 64 << 20
PIECE_BYTES = 64 << 10
PACKET_BYTES = 1452


class Channel(Protocol):
    """One stream of either side, as the measurements use it."""

    async def write(self, data: bytes) -> None: ...
    async def read(self) -> bytes:
        """At least one byte; empty at the end."""

    async def finish(self) -> None: ...


OpenChannel = Callable[[], Awaitable[Channel]]


async def answer(channel: Channel) -> None:
    """Do what the first byte asks: echo, trickle chunks, or count what comes."""
    first = await channel.read()
    match first[:1]:
        case b"e":
            await channel.write(first)
            while data := await channel.read():
                await channel.write(data)
        case b"t":
            start = time.monotonic()
            for number in range(CHUNKS):
                await asyncio.sleep(start + (number + 1) * CHUNK_EVERY_S - time.monotonic())
                await channel.write(b"t" * CHUNK_BYTES)
        case _:
            count = len(first)
            while data := await channel.read():
                count += len(data)
            await channel.write(b"%d" % count)
    await channel.finish()


async def echo_us(open_channel: OpenChannel, size: int) -> list[float]:
    """Round trips of `size` bytes."""
    channel = await open_channel()
    times: list[float] = []
    for _ in range(ECHOES):
        start = time.perf_counter()
        await channel.write(b"e" * size)
        got = 0
        while got < size:
            got += len(await channel.read())
        times.append(time.perf_counter() - start)
    await channel.finish()
    return [seconds * 1e6 for seconds in times]


async def echo_p50_us(open_channel: OpenChannel) -> float:
    return statistics.median(await echo_us(open_channel, 64))


async def echo_p99_us(open_channel: OpenChannel) -> float:
    return statistics.quantiles(await echo_us(open_channel, 64), n=100)[98]


async def large_echo_p50_us(open_channel: OpenChannel) -> float:
    return statistics.median(await echo_us(open_channel, 1024))


async def large_echo_p99_us(open_channel: OpenChannel) -> float:
    return statistics.quantiles(await echo_us(open_channel, 1024), n=100)[98]


async def trickle_cpu_ms(open_channel: OpenChannel) -> float:
    """CPU time of this process, the reading side, per second of 64 streams."""

    async def take() -> None:
        channel = await open_channel()
        await channel.write(b"t")
        got = 0
        while got < CHUNKS * CHUNK_BYTES:
            got += len(await channel.read())
        await channel.finish()

    start, cpu_start = time.monotonic(), cpu_s()
    async with asyncio.TaskGroup() as group:
        for _ in range(STREAMS):
            group.create_task(take())
    return (cpu_s() - cpu_start) * 1e3 / (time.monotonic() - start)


async def bulk_mb_per_s(open_channel: OpenChannel) -> float:
    channel = await open_channel()
    piece = b"b" * PIECE_BYTES
    start = time.perf_counter()
    for _ in range(BULK_BYTES // PIECE_BYTES):
        await channel.write(piece)
    await channel.finish()
    assert int(await channel.read()) == BULK_BYTES
    return BULK_BYTES / 1e6 / (time.perf_counter() - start)


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_rss_mb(process: int | str = "self") -> float:
    """The most that `process` had resident. Its `ru_maxrss` would count what had started it as well."""
    status = Path(f"/proc/{process}/status").read_text()
    (kib,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kib) / 1024


# Our side


@dataclass(slots=True)
class OurChannel:
    stream: Stream

    async def write(self, data: bytes) -> None:
        await self.stream.send(Record(RecordKind.DATA, data))

    async def read(self) -> bytes:
        record = await self.stream.receive()
        return record.payload if record else b""

    async def finish(self) -> None:
        await self.stream.finish()


def our_site(seed: int) -> tuple[Site, NodeId]:
    """Node `seed` (1 or 2) of a mesh that both processes derive alike, and the other node's id."""
    dice = random.Random(7)
    root, one, two = (NodeKey.generate(dice.randbytes) for _ in range(3))
    mesh = found_mesh("bench", root, one, time.time(), dice.randbytes)
    me, other = (one, two) if seed == 1 else (two, one)
    certificate = issue(Signer(root), mesh.mesh_id, me.public, Role.MEMBER, (), time.time(), dice.randbytes)
    membership = Membership(mesh.mesh_id, "bench", root.public, certificate)
    return Site(me, f"bench-{seed}", 1, membership, Role.MEMBER), other.node


async def serve_ours() -> None:
    site, _ = our_site(1)
    async with QuicTransport(site, Address("127.0.0.1", 0)) as transport, asyncio.TaskGroup() as group:
        print(transport.addresses[0].port, flush=True)
        async for stream in transport.streams():
            group.create_task(answer(OurChannel(stream)))


@contextlib.asynccontextmanager
async def ours(port: int) -> AsyncIterator[OpenChannel]:
    site, server = our_site(2)
    async with QuicTransport(site, Address("127.0.0.1", 0)) as transport:
        transport.keep(server, (Address("127.0.0.1", port),))
        async for event in transport.events():
            if getattr(event, "state", None) is LinkState.CONNECTED:
                break

        async def open_channel() -> Channel:
            return OurChannel(await transport.open(server, StreamHeader("bench/1", "1")))

        yield open_channel


# Bare aioquic


@dataclass(slots=True)
class BareChannel:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read(self) -> bytes:
        return await self.reader.read(PIECE_BYTES)

    async def finish(self) -> None:
        self.writer.write_eof()


async def serve_bare(serve_channel: Callable[[Channel], Coroutine[None, None, None]] = answer) -> None:
    certificate, key = self_signed_certificate(NodeKey(b"\x01" * 32), time.time())
    configuration = QuicConfiguration(
        is_client=False, alpn_protocols=["bare"], certificate=certificate, private_key=key, idle_timeout=120
    )
    configuration.max_datagram_size = PACKET_BYTES
    async with asyncio.TaskGroup() as group:
        server = await serve(
            "127.0.0.1",
            0,
            configuration=configuration,
            stream_handler=lambda reader, writer: void(group.create_task(serve_channel(BareChannel(reader, writer)))),
        )
        assert server._transport is not None
        grow_buffers(server._transport)
        print(server._transport.get_extra_info("sockname")[1], flush=True)
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def bare(port: int) -> AsyncIterator[OpenChannel]:
    configuration = QuicConfiguration(alpn_protocols=["bare"], verify_mode=ssl.CERT_NONE, idle_timeout=120)
    configuration.max_datagram_size = PACKET_BYTES
    async with connect("127.0.0.1", port, configuration=configuration) as protocol:
        assert protocol._transport is not None
        grow_buffers(protocol._transport)

        async def open_channel() -> Channel:
            return BareChannel(*await protocol.create_stream())

        yield open_channel


def grow_buffers(transport: asyncio.DatagramTransport) -> None:
    """Give bare aioquic the socket buffers that ours has; with the default ones it loses packets in bursts."""
    plain = transport.get_extra_info("socket")
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        plain.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)


def void(_: object) -> None:
    """Some handlers must return nothing."""


# The run

SIDES = {"ours": (serve_ours, ours), "bare": (serve_bare, bare)}
CASES: dict[str, tuple[str, str, float, Callable[[OpenChannel], Awaitable[float]]]] = {
    "echo-64B": ("us", "lower", 1.3, echo_p50_us),
    "streams-64": ("ms CPU/s", "lower", 1.3, trickle_cpu_ms),
    "quic-64MB": ("MB/s", "higher", 0.9, bulk_mb_per_s),
}
BESIDE: dict[str, Callable[[OpenChannel], Awaitable[float]]] = {
    "p99": echo_p99_us,
    "1KiB_p50": large_echo_p50_us,
    "1KiB_p99": large_echo_p99_us,
}
"""Said beside the echo's row by `bench.transport`."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one run took, or medians of several. rss_mb: of the larger end, at its most."""

    figure: float
    rss_mb: float


async def measure(side: str, case: str, loop: str) -> Taken:
    """One figure, of a case or of what is said beside one; each end is a process of its own."""
    program = (sys.executable, "-m", "bench.transport_streams", "--loop", loop)
    far = await asyncio.create_subprocess_exec(*program, "--serve", side, stdout=asyncio.subprocess.PIPE)
    try:
        assert far.stdout is not None
        port = (await far.stdout.readline()).decode().strip()
        near = await asyncio.create_subprocess_exec(
            *program, "--take", side, case, port, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await near.communicate()
        taken = Taken(**json.loads(said))
        return Taken(taken.figure, max(taken.rss_mb, peak_rss_mb(far.pid)))
    finally:
        far.kill()
        await far.wait()


async def take(side: str, case: str, port: int) -> Taken:
    """As the near end."""
    figure = BESIDE[case] if case in BESIDE else CASES[case][3]
    async with SIDES[side][1](port) as open_channel, asyncio.timeout(120):
        return Taken(await figure(open_channel), peak_rss_mb())


async def medians(case: str, loop: str, rounds: int) -> tuple[Taken, Taken]:
    """Ours and theirs over `rounds`, the two sides taking turns so that a busy machine slows both."""
    taken: dict[str, list[Taken]] = {"ours": [], "bare": []}
    for _ in range(rounds):
        for side, values in taken.items():
            values.append(await measure(side, case, loop))
    return median(taken["ours"]), median(taken["bare"])


def median(taken: list[Taken]) -> Taken:
    return Taken(statistics.median(one.figure for one in taken), statistics.median(one.rss_mb for one in taken))


async def compare(loop: str, rounds: int, cases: tuple[str, ...] = tuple(CASES)) -> list[tuple[Row, Taken, Taken]]:
    """Each row with what both sides took."""
    rows: list[tuple[Row, Taken, Taken]] = []
    for case in cases:
        unit, better, target, _ = CASES[case]
        mine, theirs = await medians(case, loop, rounds)
        ratio = mine.figure / theirs.figure
        rows.append((Row(case, mine.figure, theirs.figure, "bare aioquic", ratio, unit, better, target), mine, theirs))
    return rows


def as_row(row: Row, mine: Taken, theirs: Taken) -> dict[str, object]:
    return asdict(row) | {"ours_rss_mb": mine.rss_mb, "baseline_rss_mb": theirs.rss_mb}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", choices=tuple(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--take", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    run = uvloop.run if options.loop == "uvloop" else asyncio.run
    if options.serve:
        run(SIDES[options.serve][0]())
        return
    if options.take:
        side, case, port = options.take
        print(json.dumps(asdict(run(take(side, case, int(port))))))
        return
    rows = run(compare(options.loop, options.rounds))
    if options.json:
        print(json.dumps({"name": "transport", "machine": platform.node(), "rows": [as_row(*row) for row in rows]}))
        return
    for row, mine, theirs in rows:
        print(
            f"{row.case:12} ours {row.ours:8.1f}  bare {row.baseline:8.1f} {row.unit:9} ratio {row.ratio:.2f}", end=""
        )
        print(f"  (target {'≥' if row.better == 'higher' else '≤'} {row.target})", end="")
        print(f"  RSS {mine.rss_mb:.0f} and {theirs.rss_mb:.0f} MB")


if __name__ == "__main__":
    main()
