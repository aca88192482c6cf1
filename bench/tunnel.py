"""A tunnel over QUIC beside plain loopback TCP and a bare QUIC stream, in one run: python -m bench.tunnel [--json].

The far end is a child process. `tunnel-echo-64B`: round trips of 64 bytes.  `tunnel-64MB`: one way, counted at the
far end.  `tunnel-rss`: how much memory each end gains while the far program reads a megabyte a second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import platform
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict

import psutil
import uvloop

from bench.row import Row
from bench.transport_streams import our_site
from transport.interface import Address, LinkState, Record, RecordKind, Stream, StreamHeader
from transport.pipe import Pipe, SocketPipe, connect
from transport.quic import QuicTransport
from transport.tunnel import Destination, TunnelClient
from transport.tunnel_server import TunnelRequest, TunnelServer

ECHOES = 1000
BULK_BYTES = 64 << 20
PIECE = b"b" * (64 << 10)
SLOW_BYTES_PER_S = 1_000_000
SLOW_S = 20.0
LOOPBACK = Address("127.0.0.1", 0)


async def write_all(pipe: Pipe, data: bytes) -> None:
    while data:
        data = data[await pipe.write(data) :]


async def answer(pipe: Pipe) -> None:
    """Do what the first byte asks: echo, read slowly and tell how memory grew, or count what comes."""
    with contextlib.suppress(ConnectionError):
        first = await pipe.read(len(PIECE))
        match first[:1]:
            case b"e":
                await echo(pipe, first)
            case b"s":
                await write_all(pipe, b"%d" % await read_slowly(pipe))
            case _:
                count = len(first)
                while data := await pipe.read(len(PIECE)):
                    count += len(data)
                await write_all(pipe, b"%d" % count)
        await pipe.finish()


async def echo(pipe: Pipe, data: bytes) -> None:
    while data:
        await write_all(pipe, data)
        data = await pipe.read(len(PIECE))


async def read_slowly(pipe: Pipe) -> int:
    """By how many bytes this process grew while it took a megabyte a second."""
    process = psutil.Process()
    start, count, before, most = time.monotonic(), 0, 0, 0
    while data := await pipe.read(len(PIECE)):
        count += len(data)
        rss = process.memory_info().rss
        before = before or rss
        most = max(most, rss)
        await asyncio.sleep(max(0.0, start + count / SLOW_BYTES_PER_S - time.monotonic()))
    return most - before


# Measurements, of any pipe


async def echo_p50_us(pipe: Pipe) -> float:
    times: list[float] = []
    for _ in range(ECHOES):
        start = time.perf_counter()
        await write_all(pipe, b"e" * 64)
        got = 0
        while got < 64:
            got += len(await pipe.read(64 - got))
        times.append(time.perf_counter() - start)
    await pipe.finish()
    assert not await pipe.read(1)
    return statistics.median(times) * 1e6


async def bulk_mb_per_s(pipe: Pipe) -> float:
    start = time.perf_counter()
    for _ in range(BULK_BYTES // len(PIECE)):
        await write_all(pipe, PIECE)
    await pipe.finish()
    assert int(await pipe.read(100)) == BULK_BYTES
    return BULK_BYTES / 1e6 / (time.perf_counter() - start)


async def growth_mb(pipe: Pipe) -> float:
    """The larger growth of the two ends, while the near one pushes as hard as it is let."""
    process = psutil.Process()
    before = process.memory_info().rss
    most = before
    end = time.monotonic() + SLOW_S
    await write_all(pipe, b"s")
    while time.monotonic() < end:
        await pipe.write(PIECE)
        most = max(most, process.memory_info().rss)
    await pipe.finish()
    return float(max(most - before, int(await pipe.read(100)))) / 1e6


# The far end


async def serve() -> None:
    """A TCP service, a tunnel to it, and the same answers on bare streams."""
    site, _ = our_site(1)
    with socket.create_server((LOOPBACK.host, 0)) as listening:
        listening.setblocking(False)
        service = Address(LOOPBACK.host, listening.getsockname()[1])

        async def admit(request: TunnelRequest) -> Address:
            return service

        async with QuicTransport(site, LOOPBACK) as transport, asyncio.TaskGroup() as group:
            server = TunnelServer(transport.board)
            group.create_task(accept(listening, group))
            print(transport.addresses[0].port, service.port, flush=True)
            with server.offer("bench", admit):
                async for stream in transport.streams():
                    is_tunnel = stream.header.protocol == "tunnel/1"
                    group.create_task(server.serve(stream) if is_tunnel else answer(StreamPipe(stream)))


async def accept(listening: socket.socket, group: asyncio.TaskGroup) -> None:
    while True:
        accepted, _ = await asyncio.get_running_loop().sock_accept(listening)
        accepted.setblocking(False)
        group.create_task(answer(SocketPipe(accepted)))


class StreamPipe:
    """A bare stream as a pipe, to see what the tunnel adds to it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._rest = b""

    async def read(self, max_bytes: int) -> bytes:
        if not self._rest:
            record = await self._stream.receive()
            self._rest = record.payload if record else b""
        data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return data

    async def write(self, data: bytes) -> int:
        await self._stream.send(Record(RecordKind.DATA, data))
        return len(data)

    async def finish(self) -> None:
        await self._stream.finish()

    def close(self) -> None: ...

    def abort(self) -> None: ...


# The near end

OpenPipe = Callable[[], Awaitable[Pipe]]


@contextlib.asynccontextmanager
async def near(udp_port: int, tcp_port: int) -> AsyncIterator[dict[str, OpenPipe]]:
    site, far = our_site(2)
    async with QuicTransport(site, LOOPBACK) as transport:
        transport.keep(far, (Address(LOOPBACK.host, udp_port),))
        while transport.board.state(far) is not LinkState.CONNECTED:
            await transport.board.changed()
        async with TunnelClient(transport).listen(Destination(far, "bench")) as listener:

            async def stream_pipe() -> Pipe:
                return StreamPipe(await transport.open(far, StreamHeader("bench/1", "1")))

            yield {
                "tunnel": lambda: connect(listener.address),
                "stream": stream_pipe,
                "tcp": lambda: connect(Address(LOOPBACK.host, tcp_port)),
            }


# The run

CASES: dict[str, tuple[str, str, tuple[str, ...], Callable[[Pipe], Awaitable[float]]]] = {
    "tunnel-echo-64B": ("us", "lower", ("stream", "tcp"), echo_p50_us),
    "tunnel-64MB": ("MB/s", "higher", ("stream", "tcp"), bulk_mb_per_s),
    "tunnel-rss": ("MB", "lower", ("tcp",), growth_mb),
}


async def measure(kind: str, case: str, loop: str) -> float:
    """One figure, with a far process of its own."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.tunnel", "--loop", loop, "--serve", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        udp_port, tcp_port = map(int, (await child.stdout.readline()).split())
        async with asyncio.timeout(180), near(udp_port, tcp_port) as pipes:
            pipe = await pipes[kind]()
            try:
                return await CASES[case][3](pipe)
            finally:
                pipe.close()
    finally:
        child.kill()
        await child.wait()


async def compare(loop: str, rounds: int) -> list[Row]:
    """Medians over `rounds`, the kinds taking turns so that a busy machine slows all. No targets were set."""
    rows: list[Row] = []
    for case, (unit, better, baselines, _) in CASES.items():
        figures: dict[str, list[float]] = {kind: [] for kind in ("tunnel", *baselines)}
        for _ in range(1 if case == "tunnel-rss" else rounds):
            for kind, values in figures.items():
                values.append(await measure(kind, case, loop))
        ours = statistics.median(figures["tunnel"])
        for name in baselines:
            theirs = statistics.median(figures[name])
            rows.append(Row(case, ours, theirs, name, ours / theirs if theirs else 0.0, unit, better, 0.0))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    run = uvloop.run if options.loop == "uvloop" else asyncio.run
    if options.serve:
        run(serve())
        return
    rows = run(compare(options.loop, options.rounds))
    if options.json:
        print(json.dumps({"name": "tunnel", "machine": platform.node(), "rows": [asdict(row) for row in rows]}))
        return
    for row in rows:
        figures = f"tunnel {row.ours:9.1f}  {row.baseline_name:6} {row.baseline:9.1f} {row.unit:5}"
        print(f"{row.case:16} {figures} ratio {row.ratio:.2f}")


if __name__ == "__main__":
    main()
