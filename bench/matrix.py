"""Variants × nodes: ms and Σ of every circuit on every node, as the foxhop page has it: `python -m bench.matrix`.

Without circuits the algorithms of one point addition on a toy curve are made (`meshd circuit generate toy-curve`);
without --data-dir three agents of unlike speed are started on this machine. Circuits are put once, where the asker is;
the other nodes pull them. Each is run on each node by name, and all of them spread over the nodes; the replies have to
be alike to the byte, or the bench fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.bend import DEADLINE_S, START_S, is_linked
from bench.row import Row
from forms.circuits.generator.generate import Arithmetic, algorithms, generate
from forms.schedule import schedule
from meshd.control import CommandFailed, ControlClient, NotRunning
from meshd.local_agents import LocalAgent, LocalAgents, local_agents

SLOWNESS = {"plain": 1.96, "fast": 1.0, "slow": 3.61}
"""The foxhop page's 1, 0.51 and 1.84, with the fastest at full speed."""
SUM = re.compile(rb"\(toffoli (\d+)\) \(clifford (\d+)\)")


@dataclass(frozen=True, slots=True)
class Settings:
    """shots: of each circuit.  check: what they compute, as forms name it.  rounds: the fastest counts."""

    shots: int
    check: str
    rounds: int


@dataclass(slots=True)
class Variant:
    """One circuit. seconds, replies: by node."""

    name: str
    digest: str
    seconds: dict[str, float] = field(default_factory=dict)
    replies: dict[str, bytes] = field(default_factory=dict)

    def call(self, settings: Settings) -> str:
        """The form's call."""
        batches = -(-settings.shots // 64)
        return f'(cuda-sim-ops-bin "{self.digest}" {batches} (check {settings.check}))'

    @property
    def sums(self) -> set[str]:
        """Σ Toffoli and Σ Clifford as nodes have them; one where they agree."""
        return {_sum(reply) for reply in self.replies.values()}


def _sum(reply: bytes) -> str:
    found = SUM.search(reply)
    return " ".join(f"{int(digits):,}" for digits in found.groups()) if found else reply.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Asker:
    """An agent, asked through its control door."""

    client: ControlClient

    async def command(self, name: str, **arguments: Any) -> dict[str, Any]:
        """A command's answer."""
        return await asyncio.to_thread(self.client.call, name, **arguments)

    async def call(self, text: str, on: str = "") -> bytes:
        """The reply to a form's call."""
        given = {"on": on} if on else {}
        reply, _ = await asyncio.to_thread(self.client.post, "form_call", text.encode(), **given)
        return reply

    async def nodes(self) -> list[str]:
        """This one and those that compute for it, by name."""
        status = await self.command("status")
        others = [peer["name"] for peer in status["peers"] if peer["state"] == "alive" and peer["role"] != "client"]
        return [status["node"]["name"], *others]


def made(folder: Path, width: int) -> list[Path]:
    """A file for each way to add two points of a toy curve."""
    paths = []
    for algorithm in algorithms(Arithmetic.POINT_ADDITION):
        path = folder / algorithm.name_of(Arithmetic.POINT_ADDITION)
        path.write_bytes(generate(Arithmetic.POINT_ADDITION, width, algorithm))
        paths.append(path)
    return paths


@asynccontextmanager
async def three_nodes(agents: LocalAgents) -> AsyncIterator[Asker]:
    """The first of three agents of this machine, all linked."""
    async with AsyncExitStack() as stack:
        first: LocalAgent | None = None
        for name, slowness in SLOWNESS.items():
            mine = replace(agents, environment={"MESHD_FORM_SLOWNESS": str(slowness)})
            token = ["--join", await first.token("member")] if first is not None else []
            agent = await stack.enter_async_context(mine.start(name, token))
            first = first or agent
        assert first is not None
        await first.until(lambda status: len(status["peers"]) == len(SLOWNESS) - 1 and is_linked(status), START_S)
        yield Asker(ControlClient(first.directory / "control.sock", DEADLINE_S))


async def measure(asker: Asker, files: Sequence[Path], settings: Settings) -> tuple[list[Variant], dict[str, float]]:
    """Every variant on every node, then all of them spread: the seconds of that, as predicted and as seen."""
    nodes = await asker.nodes()
    variants = []
    for path in files:
        digest = (await asker.command("blob_put", path=str(path.absolute())))["digest"]
        variants.append(Variant(path.name, digest))
    for number in range(settings.rounds + 1):
        for variant in variants:
            for node in nodes:
                await _run(asker, variant, node, settings, is_counted=number > 0)
    best = [[variant.seconds[node] for node in nodes] for variant in variants]
    planned = schedule(best, [0.0] * len(nodes)).finish_s
    began = time.perf_counter()
    reply = await asker.call(f"(bend {' '.join(variant.call(settings) for variant in variants)})")
    spread = time.perf_counter() - began
    if reply.strip() != b"(ok (" + b" ".join(variant.replies[nodes[0]].strip() for variant in variants) + b"))":
        raise SystemExit("spread over the nodes, the variants reply otherwise than one by one")
    return variants, {"serial": sum(row[0] for row in best), "planned": planned, "spread": spread}


async def _run(asker: Asker, variant: Variant, node: str, settings: Settings, *, is_counted: bool) -> None:
    """The first run is not counted: a node pulls the circuit, and reads it."""
    began = time.perf_counter()
    reply = await asker.call(variant.call(settings), node)
    seconds = time.perf_counter() - began
    variant.replies[node] = reply
    if is_counted:
        variant.seconds[node] = min(seconds, variant.seconds.get(node, seconds))


def differing(variants: Sequence[Variant]) -> list[str]:
    """What is wrong: variants of which nodes say different sums, or no sum."""
    wrong = [
        variant for variant in variants if len(variant.sums) > 1 or not all(map(SUM.search, variant.replies.values()))
    ]
    return [f"{one.name}: {', '.join(f'{node} {_sum(reply)}' for node, reply in one.replies.items())}" for one in wrong]


def rows(variants: Sequence[Variant], totals: dict[str, float]) -> list[dict[str, Any]]:
    """As `--json` prints them: the asker's ms beside the fastest node's, and serial beside spread."""
    found = []
    for variant in variants:
        asker, best = next(iter(variant.seconds)), min(variant.seconds, key=lambda node: variant.seconds[node])
        ours, alone = variant.seconds[best] * 1e3, variant.seconds[asker] * 1e3
        row = Row(variant.name, round(ours, 2), round(alone, 2), asker, round(ours / alone, 3), "ms", "lower", 1.0)
        ms = {node: round(seconds * 1e3, 2) for node, seconds in variant.seconds.items()}
        found.append(asdict(row) | {"ms": ms, "sums": sorted(variant.sums)})
    spread, serial, planned = (totals[name] * 1e3 for name in ("spread", "serial", "planned"))
    row = Row("spread", round(spread, 1), round(serial, 1), "one node", round(spread / serial, 3), "ms", "lower", 1.0)
    return [*found, asdict(row) | {"planned_ms": round(planned, 1)}]


def show(variants: Sequence[Variant], totals: dict[str, float]) -> None:
    """The table, and what spreading gave."""
    nodes = list(variants[0].seconds)
    print(f"{'ms':<32}" + "".join(f"{node:>12}" for node in nodes) + "    Σ Toffoli, Σ Clifford")
    for variant in variants:
        ms = "".join(f"{variant.seconds[node] * 1e3:>12.1f}" for node in nodes)
        print(f"{variant.name:<32}{ms}    {'  ≠  '.join(sorted(variant.sums))}")
    serial, planned, spread = (totals[name] * 1e3 for name in ("serial", "planned", "spread"))
    print(f"one after the other on {nodes[0]} {serial:.1f} ms; spread: planned {planned:.1f} ms, took {spread:.1f} ms")


async def main(options: argparse.Namespace) -> int:
    """Measure and print; 1 where nodes do not agree."""
    settings = Settings(options.shots, options.check, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        files = options.files or made(Path(folder), options.width)
        async with AsyncExitStack() as stack:
            if options.data_dir:
                asker = Asker(ControlClient(Path(options.data_dir) / "control.sock", DEADLINE_S))
            else:
                asker = await stack.enter_async_context(three_nodes(local_agents(Path(folder))))
            variants, totals = await measure(asker, files, settings)
    if options.as_json:
        machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        print(json.dumps({"name": "matrix", "machine": machine, "rows": rows(variants, totals)}))
    else:
        show(variants, totals)
    wrong = differing(variants)
    print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
    return 1 if wrong else 0


def arguments() -> argparse.Namespace:
    """The command line's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="*", help="circuits (default: some are made)")
    parser.add_argument(
        "--data-dir", default="", help="of a running agent, whose mesh is measured (default: three agents here)"
    )
    parser.add_argument("--width", type=int, default=7, help="of the circuits that are made")
    parser.add_argument("--shots", type=int, default=1024)
    parser.add_argument("--check", default="toy-curve", help="secp256k1, toy-curve, adder, …, or none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", dest="as_json")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(arguments())))
    except (NotRunning, CommandFailed) as failure:
        sys.exit(str(failure))
