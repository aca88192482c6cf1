"""From which size on is a bulk lane quicker than QUIC? Calls between two processes: `python -m bench.carriers`.

A call is a stream of its own: so many bytes there and 64 back, and 64 there and so many back. The carriers take turns,
so that a busy machine slows both; the lane is open, but for the row that says what opening it takes.
`BULK_FROM_BYTES` of `transport.interface` comes from these figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import sys
import time
from dataclasses import asdict

import uvloop

from bench.bulk import ours
from bench.row import Row
from bench.transport_streams import our_site
from transport.interface import Address, NodeId, Record, RecordKind, Stream, StreamHeader
from transport.quic import QuicTransport

SIZES_KIB = (4, 16, 32, 64, 128, 160, 256, 512, 700, 1024, 2048)
PIECE_BYTES = 256 << 10
"""As `form/1` cuts a call."""
SHORT = bytes(64)
LOOPBACK = "127.0.0.1"
TIME_LIMIT_S = 60.0
OPENINGS = 5


async def answer(stream: Stream) -> None:
    """Take a question whose header says how long the answer is, and give it."""
    while await stream.receive() is not None:
        pass
    await send(stream, bytes(int(stream.header.request_id)))


async def send(stream: Stream, body: bytes) -> None:
    """All of it, and the end."""
    for at in range(0, len(body), PIECE_BYTES):
        await stream.send(Record(RecordKind.DATA, body[at : at + PIECE_BYTES]))
    await stream.finish()


async def serve() -> None:
    """The far end."""
    site, _ = our_site(1)
    async with QuicTransport(site, Address(LOOPBACK, 0)) as transport, asyncio.TaskGroup() as group:
        print(transport.addresses[0].port, flush=True)
        async for stream in transport.streams():
            group.create_task(answer(stream))


async def call(transport: QuicTransport, far: NodeId, asked: bytes, answered: int, *, bulk: bool) -> float:
    """Seconds of one."""
    began = time.perf_counter()
    async with asyncio.timeout(TIME_LIMIT_S):
        stream = await transport.open(far, StreamHeader("bench/1", str(answered)), bulk=bulk)
        await send(stream, asked)
        came = 0
        while (record := await stream.receive()) is not None:
            came += len(record.payload)
    assert came == answered
    return time.perf_counter() - began


async def compare(port: int, rounds: int) -> list[Row]:
    """A row for the first call, which opens the lane; then one for each size and way, medians of `rounds`."""
    rows, opened_s, plain_s = [], [], []
    for _ in range(OPENINGS):
        async with ours(port) as (transport, far):
            await call(transport, far, SHORT, len(SHORT), bulk=False)  # makes the connection that streams share
            plain_s.append(await call(transport, far, SHORT, len(SHORT), bulk=False))
            opened_s.append(await call(transport, far, SHORT, len(SHORT), bulk=True))
    rows.append(row("open the lane", opened_s, plain_s))
    async with ours(port) as (transport, far):
        await call(transport, far, SHORT, len(SHORT), bulk=True)
        for size_kib in SIZES_KIB:
            body = bytes(size_kib << 10)
            for way, asked, answered in ("there", body, len(SHORT)), ("back", SHORT, len(body)):
                taken: dict[bool, list[float]] = {True: [], False: []}
                for _ in range(rounds):
                    for bulk in taken:
                        taken[bulk].append(await call(transport, far, asked, answered, bulk=bulk))
                rows.append(row(f"{size_kib} KiB {way}", taken[True], taken[False]))
    return rows


def row(case: str, bulk_s: list[float], quic_s: list[float]) -> Row:
    mine, theirs = (1000 * statistics.median(one) for one in (bulk_s, quic_s))
    return Row(case, mine, theirs, "the same over QUIC", mine / theirs, "ms", "lower", 0.0)


async def run(rounds: int) -> list[Row]:
    """Both ends, the far one in a process of its own."""
    far = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.carriers", "--serve"), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert far.stdout is not None
        return await compare(int(await far.stdout.readline()), rounds)
    finally:
        far.kill()
        await far.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve())
        return
    rows = uvloop.run(run(options.rounds))
    if options.json:
        print(json.dumps({"name": "carriers", "machine": platform.node(), "rows": [asdict(one) for one in rows]}))
        return
    for one in rows:
        print(f"{one.case:16} lane {one.ours:8.2f} ms   QUIC {one.baseline:8.2f} ms   ratio {one.ratio:.2f}")


if __name__ == "__main__":
    main()
