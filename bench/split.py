"""Split models: what the mesh costs, and what distance and a draft model do: `python -m bench.split [--json]`.

`split-tokens`: tokens a second of a model over two agents, beside the very same split over bare loopback TCP (a
`ggml-rpc-server` and a llama-server with the same command line). Both stand at the same time and are asked in turns.
The other cases serve the shipped toy by agents, alone and split, prose and code asked for, with and without its draft
model, at 0 and 20 ms of round trip (relays make packets late); the baseline is the same toy alone without draft.
Everything shares this machine's cores. mesh-llm's own figures, on its hardware, stand below as theirs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from gguf import GGMLQuantizationType

from bench.row import Row
from llm.engines.interface import EngineState, Request
from llm.engines.llama_arguments import LlamaServerOptions, RpcDevices
from llm.engines.llama_server import LlamaServerEngine
from llm.engines.rpc_server import RpcServerOptions, running_rpc_server
from llm.split.layout import own_layers
from meshd.impaired_agents import ImpairedAgents
from meshd.launcher import ProcessLauncher
from meshd.local_agents import LocalAgents, local_agents
from tests.llm.architectures import Plan, write_architecture
from tools.scenarios.stage import TOY, TOY_DRAFT, api_of, until_served
from transport.address import format_address
from transport.impairment import Conditions

# On this project's machine a token of it takes about as long as one of the 32 B model in mesh-llm's table.
MODEL = Plan(
    "llama", GGMLQuantizationType.Q8_0, layers=24, width=1536, heads=24, kv_heads=4, feed=4096, vocabulary=8000
)
CONTEXT_TOKENS = 1024
TOKENS = 24
TARGET = 0.9
PROMPTS = {"prose": "What is meshd, and whom is it for?", "code": "Write a Python function that reads a GGUF file."}
THEIRS = (
    ("prose, solo", "~19 tok/s", "62 %"),
    ("code, solo", "~25 tok/s", "85 %"),
    ("prose, split over 2 nodes, 20 ms", "6-9 tok/s", "54-63 %"),
    ("code, split over 2 nodes, 20 ms", "~13 tok/s", "87 %"),
)
"""mesh-llm's, with Qwen2.5-32B on its own hardware: what, tokens a second, draft acceptance."""


@dataclass(frozen=True, slots=True)
class SplitRow(Row):
    """acceptance: share of the drafted tokens that were taken; None without a draft."""

    acceptance: float | None = None


@dataclass(frozen=True, slots=True)
class Speed:
    """tokens_per_s: generated.  acceptance: share of proposed tokens that were taken, None without a draft."""

    tokens_per_s: float
    acceptance: float | None


Asking = Callable[[], Coroutine[Any, Any, Speed]]


def _speed(timings: dict[str, Any]) -> Speed:
    proposed = timings.get("draft_n", 0)
    return Speed(timings["predicted_per_second"], timings["draft_n_accepted"] / proposed if proposed else None)


# What the tunnel costs


@asynccontextmanager
async def over_the_mesh(model: Path, folder: Path) -> AsyncIterator[Asking]:
    """Two agents that share `model` half and half."""
    agents = local_agents(folder / "agents")
    common = ("--threads", "1", "--vram-limit", "4")
    leads = (*common, "--split", "--model", str(model), "--ctx", str(CONTEXT_TOKENS), "--parallel", "1")
    async with AsyncExitStack() as stack:
        leader = await stack.enter_async_context(agents.start("leader", leads))
        joining = (*common, "--join", await leader.token("member"))
        await stack.enter_async_context(agents.start("worker", joining))
        await until_served(leader, model.stem, "split")
        api = await api_of(leader)

        async def ask() -> Speed:
            return await completion(f"{api}/completion?model={model.stem}")

        yield ask


@asynccontextmanager
async def over_bare_tcp(model: Path, folder: Path) -> AsyncIterator[Asking]:
    """The same processes with the same arguments, and nothing between them but loopback."""
    launcher = ProcessLauncher(os.environ)
    async with AsyncExitStack() as stack:
        options = RpcServerOptions(folder / "rpc.log", threads=1, device="CPU")
        server = await stack.enter_async_context(running_rpc_server(options, launcher))
        same = LlamaServerOptions(
            model,
            "bare",
            folder / "bare.log",
            CONTEXT_TOKENS,
            slots=1,
            gpu_layers=MODEL.layers + 1 - own_layers((0.5, 0.5), MODEL.layers),
            threads=1,
            rpc=RpcDevices((format_address(server.address),), (0.5,)),
        )
        engine = LlamaServerEngine(same, launcher)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        running = group.create_task(engine.run())
        stack.callback(running.cancel)
        while engine.status.state is not EngineState.READY:
            await engine.changed()

        async def ask() -> Speed:
            body = json.dumps(_body()).encode()
            headers = (("content-type", "application/json"),)
            reply = await engine.answer(Request("bench", "bare", "POST", "/completion", headers, body, 300.0))
            try:
                answer = json.loads(b"".join([chunk async for chunk in reply.chunks()]))
            finally:
                await reply.close()
            return _speed(answer["timings"])

        yield ask


def _body() -> dict[str, Any]:
    return {"prompt": "w1 w2 w3", "n_predict": TOKENS, "ignore_eos": True, "temperature": 0, "cache_prompt": False}


async def completion(url: str) -> Speed:
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.post(url, json=_body()) as response:
        return _speed((await response.json())["timings"])


async def tunnel_cost(folder: Path, rounds: int) -> Row:
    """Medians of answers taken in turns, for a busy moment of the machine falls on both then."""
    model = write_architecture(folder / "model.gguf", MODEL)
    async with over_the_mesh(model, folder) as mesh, over_bare_tcp(model, folder) as bare:
        ours: list[float] = []
        theirs: list[float] = []
        for number in range(rounds):
            asked = ((mesh, ours), (bare, theirs))
            for ask, found in asked if number % 2 else reversed(asked):
                found.append((await ask()).tokens_per_s)
    pairs = sorted(one / other for one, other in zip(ours, theirs, strict=True))
    spread = f"pairs {pairs[0]:.2f} to {pairs[-1]:.2f}, median {statistics.median(pairs):.2f}"
    name = f"the same split over bare loopback TCP ({spread})"
    mine, baseline = statistics.median(ours), statistics.median(theirs)
    return Row("split-tokens", mine, baseline, name, mine / baseline, "tok/s", "higher", TARGET)


# What distance and a draft do


async def toy_speeds(agents: LocalAgents, *, is_split: bool, has_draft: bool, rtt_ms: float) -> dict[str, Speed]:
    """By kind of prompt."""
    late = Conditions(delay_s=rtt_ms / 2000)
    impaired = ImpairedAgents(agents, late)
    draft = ("--draft", str(TOY_DRAFT)) if has_draft else ()
    leads = ("--model", str(TOY), "--threads", "1", "--vram-limit", "2", *draft, *(("--split",) if is_split else ()))
    async with AsyncExitStack() as stack:
        leader = await stack.enter_async_context(impaired.start("leader", leads))
        if is_split:
            joining = ("--vram-limit", "2", "--threads", "1", "--join", await leader.token("member"))
            await stack.enter_async_context(impaired.start("worker", joining))
        await until_served(leader, TOY.stem, "split" if is_split else "solo")
        api = await api_of(leader)
        return {kind: await chat_speed(api, prompt) for kind, prompt in PROMPTS.items()}


async def chat_speed(api: str, prompt: str, answers: int = 3) -> Speed:
    messages = [{"role": "user", "content": prompt}]
    body = {"model": TOY.stem, "messages": messages, "temperature": 0, "max_tokens": 64, "cache_prompt": False}
    timeout = aiohttp.ClientTimeout(total=300)
    found = []
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for _ in range(answers):
            async with session.post(f"{api}/v1/chat/completions", json=body) as response:
                found.append(_speed((await response.json())["timings"]))
    return max(found, key=lambda one: one.tokens_per_s)


CASES = (
    *(("solo", False, False, 0.0), ("solo-draft", False, True, 0.0)),
    *(("split", True, False, 0.0), ("split-draft", True, True, 0.0)),
    *(("split", True, False, 20.0), ("split-draft", True, True, 20.0)),
)


async def toy_rows(folder: Path) -> list[SplitRow]:
    rows: list[SplitRow] = []
    alone: dict[str, Speed] = {}
    for number, (name, is_split, has_draft, rtt_ms) in enumerate(CASES):
        agents = local_agents(folder / f"toy-{number}")
        speeds = await toy_speeds(agents, is_split=is_split, has_draft=has_draft, rtt_ms=rtt_ms)
        alone = alone or speeds
        for kind, speed in speeds.items():
            base = alone[kind].tokens_per_s
            case = f"{kind}-{name}-{rtt_ms:g}ms" if is_split else f"{kind}-{name}"
            mine, taken = speed.tokens_per_s, speed.acceptance
            rows.append(SplitRow(case, mine, base, "alone, no draft", mine / base, "tok/s", "higher", 0.0, taken))
    return rows


async def run(rounds: int, *, with_toy: bool) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="meshd-bench-split-") as name:
        folder = Path(name)
        return [await tunnel_cost(folder, rounds), *(await toy_rows(folder) if with_toy else ())]


def _accepted(row: Row) -> str:
    if not isinstance(row, SplitRow) or row.acceptance is None:
        return ""
    return f"  accepted {100 * row.acceptance:3.0f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--rounds", type=int, default=16, help="answers of each side of split-tokens")
    parser.add_argument("--only-tunnel", action="store_true", help="leave the toy out")
    options = parser.parse_args()
    rows = uvloop.run(run(options.rounds, with_toy=not options.only_tunnel))
    if options.json:
        print(json.dumps({"name": "split", "machine": platform.node(), "rows": [asdict(row) for row in rows]}))
        return
    for row in rows:
        accepted = _accepted(row)
        figures = f"{row.ours:8.1f} {row.unit}  x{row.ratio:.2f} of {row.baseline:.1f}"
        print(f"{row.case:24} {figures}, {row.baseline_name}{accepted}")
    print("theirs (mesh-llm, Qwen2.5-32B, its own hardware):")
    for what, speed, acceptance in THEIRS:
        print(f"  {what:36} {speed:>10}  accepted {acceptance}")


if __name__ == "__main__":
    main()
