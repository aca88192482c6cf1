"""Split speed, predicted beside measured, through the tunnel over the relay: python -m bench.split_plan [--json].

A generated model (a plain llama of about 90 MB, q8_0) answers alone, then split over this host and one or two
`ggml-rpc-server`s behind the mesh's tunnel, whose packets pass a relay that makes them late. k and P of
`llm.plan_speed` are fitted to the runs at 0 and 20 ms; the other distances are predictions. `--mesh` measures the
mesh's own split in its place: agents behind relays, with an RPC server for the host's own part. `--bare` leaves
tunnel and relay out, at no distance only. Everything shares this machine's cores, so each engine has one thread (two
that wait for each other stand still while a third program runs), and the fastest of several answers counts once two
rounds agree on it; where they do not, that case is measured again, up to twice as often as the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import aiohttp
import uvloop
from gguf import GGMLQuantizationType

from bench.split_mesh import ANSWERS, TOKENS, mesh_token_ms
from bench.transport_streams import our_site
from llm.plan_speed import Fit, Point, fit
from meshd.local_agents import local_agents
from tests.llm.architectures import Plan, write_architecture
from tests.llm.engine_loads import rpc_servers, serving
from transport.impairment import Conditions
from transport.interface import Address, LinkState
from transport.quic import QuicOptions, QuicTransport
from transport.relay import UdpRelay
from transport.tunnel import Destination, TunnelClient
from transport.tunnel_server import Admit, TunnelRequest, TunnelServer

LOOPBACK = Address("127.0.0.1", 0)
MODEL = Plan("llama", GGMLQuantizationType.Q8_0, layers=12, width=768, heads=12, kv_heads=4, feed=2048, vocabulary=8000)
RTTS_MS = (0.0, 5.0, 20.0, 40.0)
FITTED_MS = (0.0, 20.0)
AGREEMENT = 0.05
"""How far the second fastest round of a case may be from its fastest: further, and the fastest may be the only one that
nothing else disturbed, or none was."""
Way = Literal["tunnel", "mesh", "bare"]


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens a second. spread_percent: how far the second fastest round was behind.  is_fitted: whether k and P were
    made of this very run.
    """

    stages: int
    rtt_ms: float
    measured: float
    predicted: float
    error_percent: float
    spread_percent: float
    is_fitted: bool


async def run(rounds: int, way: Way) -> tuple[list[Row], Fit, float]:
    """The table, the fit, and tokens a second alone."""
    with tempfile.TemporaryDirectory(prefix="meshd-split-") as name:
        folder = Path(name)
        model = write_architecture(folder / "model.gguf", MODEL)
        times: dict[tuple[int, float], list[float]] = {}
        # Turns, so that a busy moment of the machine falls on all.
        for number in range(2 * rounds):
            for case in _cases(way) if number < rounds else _unsettled(times):
                times.setdefault(case, []).append(await _measure(model, folder, *case, way))
    fastest = {key: min(values) for key, values in times.items()}
    alone_ms = fastest.pop((1, 0.0))
    points = [Point(f"{s} stages", s, rtt_ms, alone_ms, found) for (s, rtt_ms), found in fastest.items()]
    fitted = Fit(0, 0, 0, 0) if way == "bare" else fit([point for point in points if point.rtt_ms in FITTED_MS])
    rows = [_row(point, fitted, _spread(times[point.stages, point.rtt_ms])) for point in points]
    return rows, fitted, 1000 / alone_ms


def _unsettled(times: dict[tuple[int, float], list[float]]) -> list[tuple[int, float]]:
    return [case for case, values in times.items() if _spread(values) > AGREEMENT]


def _spread(values: list[float]) -> float:
    """How far the second fastest is from the fastest, as a share of it; one alone agrees with nobody."""
    fastest, *others = sorted(values)
    return others[0] / fastest - 1 if others else float("inf")


def _row(point: Point, fitted: Fit, spread: float) -> Row:
    measured = 1000 / point.token_ms
    predicted = 1000 / fitted.token_ms(point.alone_ms, [point.rtt_ms] * (point.stages - 1))
    error = 100 * (predicted / measured - 1)
    is_fitted = point.rtt_ms in FITTED_MS
    figures = (round(measured, 2), round(predicted, 2), round(error, 1), round(100 * spread, 1))
    return Row(point.stages, point.rtt_ms, *figures, is_fitted)


def _cases(way: Way) -> list[tuple[int, float]]:
    return [(1, 0.0), *((stages, rtt_ms) for stages in (2, 3) for rtt_ms in ((0.0,) if way == "bare" else RTTS_MS))]


async def _measure(model: Path, folder: Path, stages: int, rtt_ms: float, way: Way) -> float:
    if way == "mesh":
        with tempfile.TemporaryDirectory(prefix="meshd-split-agents-") as agents:
            return await mesh_token_ms(local_agents(Path(agents)), model, stages, rtt_ms)
    if stages == 1:
        return await token_ms(model, folder, [])
    with rpc_servers(stages - 1, folder, threads=1) as servers:
        if way == "bare":
            return await token_ms(model, folder, servers)
        async with tunnelled(servers, rtt_ms) as listeners:
            return await token_ms(model, folder, listeners)


@asynccontextmanager
async def tunnelled(servers: list[str], rtt_ms: float) -> AsyncIterator[list[str]]:
    """Loopback addresses here that lead through tunnel and relay to `servers`."""
    # The lower id dials at once, the other only after seconds: near is who has the higher one for its peer.
    (far_site, _), (near_site, far_id) = sorted((our_site(1), our_site(2)), key=lambda pair: pair[1])
    late = Conditions(delay_s=rtt_ms / 2000)
    over_quic = QuicOptions(bulk=False)  # a bulk lane would go around the relay
    async with (
        QuicTransport(far_site, LOOPBACK, over_quic) as far,
        UdpRelay(far.addresses[0], late, late) as relay,
        QuicTransport(near_site, LOOPBACK, over_quic) as near,
        asyncio.TaskGroup() as group,
        AsyncExitStack() as stack,
    ):
        service = TunnelServer(far.board)
        for server in servers:
            stack.enter_context(service.offer(server, _admit_to(server)))
        serving_streams = group.create_task(_serve(far, service))
        near.keep(far_id, (relay.address,))
        while near.board.state(far_id) is not LinkState.CONNECTED:
            await near.board.changed()
        client = TunnelClient(near)
        listeners = [await stack.enter_async_context(client.listen(Destination(far_id, name))) for name in servers]
        yield [f"{each.address.host}:{each.address.port}" for each in listeners]
        serving_streams.cancel()


def _admit_to(server: str) -> Admit:
    host, port = server.split(":")

    async def admit(request: TunnelRequest) -> Address:
        return Address(host, int(port))

    return admit


async def _serve(far: QuicTransport, service: TunnelServer) -> None:
    async with asyncio.TaskGroup() as group:
        async for stream in far.streams():
            group.create_task(service.serve(stream))


async def token_ms(
    model: Path, folder: Path, servers: list[str], layers: int = MODEL.layers, answers: int = ANSWERS
) -> float:
    """Time per generated token; the host keeps an equal part of the layers for itself."""
    arguments = ["-c", "1024", "--parallel", "1", "-fit", "off", "--threads", "1", "--poll", "0"]
    if servers:
        offloaded = round((layers + 1) * len(servers) / (len(servers) + 1))
        equal = ",".join("1" for _ in servers)
        arguments += ["--rpc", ",".join(servers), "--tensor-split", equal, "-ngl", str(offloaded)]
    body = {"prompt": "w1 w2 w3", "n_predict": TOKENS, "ignore_eos": True, "temperature": 0, "cache_prompt": False}
    async with serving(model, tuple(arguments), folder) as url, aiohttp.ClientSession() as session:
        times = []
        for _ in range(answers):
            async with session.post(f"{url}/completion", json=body) as response:
                times.append(float((await response.json())["timings"]["predicted_per_token_ms"]))
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mesh", dest="way", action="store_const", const="mesh", default="tunnel")
    parser.add_argument("--bare", dest="way", action="store_const", const="bare")
    given = parser.parse_args()
    rows, fitted, alone = uvloop.run(run(given.rounds, given.way))
    if given.json:
        answer = {"alone": round(alone, 2), "fit": asdict(fitted), "rows": [asdict(row) for row in rows]}
        sys.stdout.write(json.dumps(answer, indent=2) + "\n")
        return
    out = [f"alone {alone:.1f} tokens/s; k {fitted.round_trips:.2f} ({fitted.least:.2f} to {fitted.most:.2f})"]
    out.append(f"P {fitted.stage_ms:.2f} ms")
    out += ["| stages | RTT, ms | measured, tokens/s | next round | predicted | error |", "|---|---|---|---|---|---|"]
    for row in rows:
        error = "fitted" if row.is_fitted else f"{row.error_percent:+.0f} %"
        out.append(
            f"| {row.stages} | {row.rtt_ms:g} | {row.measured:.1f} | -{row.spread_percent:.0f} % "
            f"| {row.predicted:.1f} | {error} |"
        )
    sys.stdout.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
