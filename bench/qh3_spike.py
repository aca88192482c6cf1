"""qh3, a fork of aioquic with its packets in Rust, beside aioquic and beside us: python -m bench.qh3_spike [--json].

No part of meshd uses qh3; this runs in an environment of its own that has it, and is behind
docs/decisions/0009-qh3.md. The cases, packets, socket buffers and event loop are those of `transport_streams`. Of
64 MB one way it counts the CPU time of both processes too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import platform
import ssl
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from typing import Any

import psutil
import uvloop
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.transport_streams import (
    BULK_BYTES,
    CASES,
    PACKET_BYTES,
    SIDES,
    BareChannel,
    Channel,
    OpenChannel,
    answer,
    grow_buffers,
    void,
)
from transport.identity import NodeKey, self_signed_certificate


class Qh3Channel(BareChannel):
    """qh3's writers cannot be drained (AttributeError); aioquic's drain waits for nothing, so neither side does."""

    async def write(self, data: bytes) -> None:
        self.writer.write(data)


Serve = Callable[[], Coroutine[Any, Any, None]]
Connect = Callable[[int], AbstractAsyncContextManager[OpenChannel]]


def configured(is_client: bool, **more: object) -> Any:
    """As the bare side of `transport_streams`; without path MTU discovery, by which qh3 sends larger packets."""
    from qh3.quic.configuration import QuicConfiguration  # type: ignore[import-not-found]

    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=["bare"],
        idle_timeout=120,
        max_datagram_size=PACKET_BYTES,
        probe_datagram_size=False,
        **more,
    )


async def serve_qh3() -> None:
    from qh3.asyncio import serve  # type: ignore[import-not-found]

    configuration = configured(is_client=False)
    certificate, key = self_signed_certificate(NodeKey(b"\x01" * 32), time.time())
    configuration.load_cert_chain(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
    async with asyncio.TaskGroup() as group:
        server = await serve(
            "127.0.0.1",
            0,
            configuration=configuration,
            stream_handler=lambda reader, writer: void(group.create_task(answer(Qh3Channel(reader, writer)))),
        )
        grow_buffers(server._transport)
        print(server._transport.get_extra_info("sockname")[1], flush=True)
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def connect_qh3(port: int) -> AsyncIterator[OpenChannel]:
    from qh3.asyncio import connect
    from qh3.tls import SignatureAlgorithm  # type: ignore[import-not-found]

    # Node keys are Ed25519, which qh3's clients do not offer by themselves.
    configuration = configured(
        is_client=True, verify_mode=ssl.CERT_NONE, signature_algorithms=[SignatureAlgorithm.ED25519]
    )
    async with connect("127.0.0.1", port, configuration=configuration) as protocol:
        grow_buffers(protocol._transport)

        async def open_channel() -> Channel:
            return Qh3Channel(*await protocol.create_stream())

        yield open_channel


COMPARED: dict[str, tuple[Serve, Connect]] = {
    "aioquic": SIDES["bare"],
    "qh3": (serve_qh3, connect_qh3),
    "ours": SIDES["ours"],
}


@dataclass(frozen=True, slots=True)
class Row:
    """Medians; `aioquic`, `qh3` and `ours` in `unit`."""

    case: str
    aioquic: float
    qh3: float
    ours: float
    unit: str


async def measure(side: str, case: str, loop: str) -> tuple[float, float]:
    """The case's figure, and the CPU seconds that both processes spent on it."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.qh3_spike", "--loop", loop, "--serve", side, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        port = int(await child.stdout.readline())
        both = psutil.Process(child.pid), psutil.Process(os.getpid())
        async with COMPARED[side][1](port) as open_channel, asyncio.timeout(120):
            before = sum(map(cpu_s, both))
            figure = await CASES[case][3](open_channel)
            return figure, sum(map(cpu_s, both)) - before
    finally:
        child.kill()
        await child.wait()


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def compare(loop: str, rounds: int) -> list[Row]:
    """Medians over `rounds`, the sides taking turns so that a busy machine slows all."""
    rows: list[Row] = []
    for case, (unit, *_) in CASES.items():
        figures: dict[str, list[tuple[float, float]]] = {side: [] for side in COMPARED}
        for _ in range(rounds):
            for side, values in figures.items():
                values.append(await measure(side, case, loop))
        medians = {side: statistics.median(figure for figure, _ in values) for side, values in figures.items()}
        rows.append(Row(case, **medians, unit=unit))
        if case == "quic-64MB":
            cost = {side: statistics.median(cpu for _, cpu in values) for side, values in figures.items()}
            per_gb = {side: cpu * 1e9 / BULK_BYTES for side, cpu in cost.items()}
            rows.append(Row("cpu-per-GB", **per_gb, unit="CPU s/GB"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="asyncio")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", choices=tuple(COMPARED), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if importlib.util.find_spec("qh3") is None:
        sys.exit("qh3 is not installed here. It is no dependency of meshd: run this in an environment that has both.")
    run = uvloop.run if options.loop == "uvloop" else asyncio.run
    if options.serve:
        run(COMPARED[options.serve][0]())
        return
    rows = run(compare(options.loop, options.rounds))
    if options.json:
        print(json.dumps({"name": "qh3", "machine": platform.node(), "rows": [asdict(row) for row in rows]}))
        return
    for row in rows:
        print(f"{row.case:12} aioquic {row.aioquic:8.1f}  qh3 {row.qh3:8.1f}  ours {row.ours:8.1f} {row.unit}")


if __name__ == "__main__":
    main()
