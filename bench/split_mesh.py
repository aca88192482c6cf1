"""The mesh's own split at a distance: real agents behind relays, for `bench.split_plan --mesh`."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from meshd.impaired_agents import ImpairedAgents
from meshd.local_agents import LocalAgents
from tools.scenarios.stage import ask, until_served
from transport.impairment import Conditions

# The same for all, so that every node gets as many layers as the next; for three, so little that two are not enough.
EACH_GB = {1: "2", 2: "2", 3: "0.075"}
TOKENS = 24
ANSWERS = 10


async def mesh_token_ms(agents: LocalAgents, model: Path, stages: int, rtt_ms: float) -> float:
    """Time per token of `model`, split over `stages` agents, or alone for one: the best of several answers."""
    impaired = ImpairedAgents(agents, Conditions(delay_s=rtt_ms / 2000))
    serves = (
        "--model",
        str(model),
        "--threads",
        "1",
        "--parallel",
        "1",
        "--ctx",
        "1024",
        "--vram-limit",
        EACH_GB[stages],
    )
    name = f"s{stages}-{rtt_ms:g}"
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(
            impaired.start(f"{name}-host", [*serves, *(["--split"] if stages > 1 else [])])
        )
        for number in range(1, stages):
            joins = ["--join", await host.token("member"), "--vram-limit", EACH_GB[stages], "--threads", "1"]
            await stack.enter_async_context(impaired.start(f"{name}-{number}", joins))
        workers = stages if stages > 1 else 0

        def is_whole(status: dict[str, object]) -> bool:
            models = status["models"]
            assert isinstance(models, list)
            return bool(models) and len(models[0]["workers"]) == workers and models[0]["state"] == "ready"

        await host.until(is_whole, 120)
        await until_served(host, model.stem, "split" if stages > 1 else "solo")
        times = []
        for _ in range(ANSWERS):
            answer = await ask(host, model.stem, "w1 w2 w3", TOKENS, ignore_eos=True, cache_prompt=False)
            times.append(float(answer.body["timings"]["predicted_per_token_ms"]))
        return min(times)
