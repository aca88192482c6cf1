"""How long datagrams take beside a bulk stream, with a connection of their own and without: python -m bench.datagrams.

A child process sends every datagram back, while this one pushes a stream through as hard as it is let; but for the
clear way, a UDP relay in the child stands between them. `two`: as the transport does it, the stream on the data
connection.  `one`: the stream on the control connection, where the datagrams are.  `idle`: no stream.  Latencies are
round trips of the datagrams that came back.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import platform
import statistics
import struct
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict

import uvloop

from bench.row import Row
from bench.transport_streams import our_site
from transport.impairment import CLEAR, Conditions, parse_conditions
from transport.interface import (
    Address,
    DatagramReceived,
    LinkState,
    NodeId,
    Record,
    RecordKind,
    Stream,
    StreamHeader,
    Transport,
)
from transport.quic import QuicTransport
from transport.relay import UdpRelay

LOOPBACK = Address("127.0.0.1", 0)
EVERY_S = 0.02
COUNT = 500
LATE_S = 5.0
PIECE = Record(RecordKind.DATA, b"b" * (64 << 10))
STAMP = struct.Struct("!d")

PROTOCOLS = {"two": "bench/1", "one": "gossip/1", "idle": None}
WAYS: dict[str, Conditions] = {
    "clear": CLEAR,
    "20mbit": parse_conditions("delay=10ms,rate=20mbit"),
    "loss-5": parse_conditions("delay=10ms,loss=5%"),
    "loss-20": parse_conditions("delay=10ms,loss=20%"),
}


async def serve(way: str) -> None:
    """Send datagrams back, take streams to their end."""
    site, _ = our_site(1)
    async with (
        QuicTransport(site, LOOPBACK) as transport,
        way_to(transport.addresses[0], WAYS[way]) as entrance,
        asyncio.TaskGroup() as group,
    ):
        print(entrance.port, flush=True)
        group.create_task(send_back(transport))
        async for stream in transport.streams():
            group.create_task(take(stream))


@contextlib.asynccontextmanager
async def way_to(address: Address, conditions: Conditions) -> AsyncIterator[Address]:
    """Where to send to for `address` to get it."""
    if conditions == CLEAR:
        yield address
        return
    async with UdpRelay(address, conditions, conditions) as relay:
        yield relay.address


async def send_back(transport: Transport) -> None:
    async for event in transport.events():
        if isinstance(event, DatagramReceived):
            transport.send_datagram(event.node, event.payload)


async def take(stream: Stream) -> None:
    while await stream.receive() is not None:
        pass


async def push(stream: Stream) -> None:
    while True:
        await stream.send(PIECE)


@contextlib.asynccontextmanager
async def far_end(way: str) -> AsyncIterator[Address]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.datagrams", "--serve", way, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        yield Address(LOOPBACK.host, int(await child.stdout.readline()))
    finally:
        child.kill()
        await child.wait()


async def round_trips(transport: Transport, far: NodeId) -> list[float]:
    """Milliseconds, of those that came back."""
    times: list[float] = []

    async def collect() -> None:
        async for event in transport.events():
            if isinstance(event, DatagramReceived):
                times.append((time.monotonic() - STAMP.unpack(event.payload)[0]) * 1000)

    async with asyncio.TaskGroup() as group:
        collecting = group.create_task(collect())
        for _ in range(COUNT):
            transport.send_datagram(far, STAMP.pack(time.monotonic()))
            await asyncio.sleep(EVERY_S)
        deadline = time.monotonic() + LATE_S
        while len(times) < COUNT and time.monotonic() < deadline:  # noqa: ASYNC110 - those that are lost never come
            await asyncio.sleep(EVERY_S)
        collecting.cancel()
    return times


async def measure(way: str, kind: str) -> tuple[list[float], float]:
    """Round trips of datagrams in ms, and what passed beside them in MB/s."""
    site, far = our_site(2)
    protocol = PROTOCOLS[kind]
    async with far_end(way) as address, QuicTransport(site, LOOPBACK) as transport, asyncio.timeout(120):
        transport.keep(far, (address,))
        async for event in transport.events():
            if getattr(event, "state", None) is LinkState.CONNECTED:
                break
        async with asyncio.TaskGroup() as group:
            pushing = None
            if protocol is not None:
                pushing = group.create_task(push(await transport.open(far, StreamHeader(protocol, "bench"))))
                await asyncio.sleep(1.0)
            sent, start = transport.links()[0].bytes_sent, time.monotonic()
            times = await round_trips(transport, far)
            mb_per_s = (transport.links()[0].bytes_sent - sent) / 1e6 / (time.monotonic() - start)
            if pushing is not None:
                pushing.cancel()
        return times, mb_per_s


async def compare(ways: list[str]) -> list[Row]:
    """The 99th percentile of both, in turns. One connection is the baseline; no target was set for the ratio."""
    rows: list[Row] = []
    for way in ways:
        figures = {kind: await measure(way, kind) for kind in PROTOCOLS}
        cuts = {kind: statistics.quantiles(times, n=100) for kind, (times, _) in figures.items()}
        for kind, (times, mb_per_s) in figures.items():
            shown = f"p50 {cuts[kind][49]:8.1f} ms  p99 {cuts[kind][98]:8.1f} ms  back {len(times)}/{COUNT}"
            print(f"{way:8} {kind:5} {shown}  beside {mb_per_s:5.1f} MB/s", file=sys.stderr)
        for baseline in ("one", "idle"):
            mine, theirs = cuts["two"][98], cuts[baseline][98]
            rows.append(Row(f"datagram-p99-{way}", mine, theirs, baseline, mine / theirs, "ms", "lower", 0.0))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--way", choices=tuple(WAYS), action="append", help="only these ways; all by default")
    parser.add_argument("--serve", choices=tuple(WAYS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(options.serve))
        return
    rows = uvloop.run(compare(options.way or list(WAYS)))
    if options.json:
        print(json.dumps({"name": "transport", "machine": platform.node(), "rows": [asdict(row) for row in rows]}))
        return
    for row in rows:
        print(f"{row.case:22} {row.ours:8.1f} ms  {row.baseline_name:5} {row.baseline:8.1f} ms  ratio {row.ratio:.2f}")


if __name__ == "__main__":
    main()
