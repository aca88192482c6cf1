"""A model that is too big for any one node waits, saying what is missing, and splits by itself when a node joins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llm.engines.llama_arguments import LlamaServerOptions
from llm.gguf import read_header
from llm.split.layout import GB
from meshd.local_agents import LocalAgent
from meshd.model_needs import needs_of
from tools.scenarios.stage import PATIENCE_S, Answer, Stage, ask, entry, until_served

MODEL = "big"
CONTEXT_TOKENS = 512
ENGINE = ("--ctx", str(CONTEXT_TOKENS), "--parallel", "1", "--threads", "1")


@dataclass(frozen=True, slots=True)
class Size:
    """GB. alone: what the model needs on one node.  limit: what each node offers, less than that."""

    alone: float
    limit: float


async def run(stage: Stage) -> None:
    path = stage.model(MODEL, width=1024, layers=8, context_tokens=CONTEXT_TOKENS)
    size, serves = _size(stage, path), ("--model", str(path), *ENGINE)

    stage.step("one node that is large enough answers, for comparison")
    async with stage.agents.start("alone", serves) as alone:
        await until_served(alone, MODEL, "solo")
        expected = await ask(alone, MODEL, "Tell me", tokens=16)

    stage.step("a node that offers less than the model needs is asked for it")
    async with stage.agents.start("first", (*serves, "--vram-limit", f"{size.limit:.6f}")) as first:
        await _waits(stage, first, size)
        stage.step("another node joins, without the model")
        await _splits(stage, first, size, expected)
        stage.step("the second node has left")
        status = await first.until(lambda status: bool(status["waiting"]), PATIENCE_S)
        stage.check("the model waits again", entry(status, MODEL)["state"] == "waiting", status["models"])

    stage.step("a node offers so little that no number of such nodes could hold it")
    async with stage.agents.start("tiny", (*serves, "--vram-limit", "0.001")) as tiny:
        await _is_refused(stage, tiny)


def _size(stage: Stage, path: Path) -> Size:
    options = LlamaServerOptions(path, MODEL, path, context_tokens=CONTEXT_TOKENS, slots=1)
    needs = needs_of(read_header(path), options, in_ram=True)
    alone, half = needs(())[0] / GB, max(needs((0.5, 0.5))) / GB
    size = Size(alone, (half + alone) / 2)
    stage.show(
        f"it needs {alone:.3f} GB on one node, at most {half:.3f} GB on each of two; nodes offer {size.limit:.3f}"
    )
    return size


async def _waits(stage: Stage, first: LocalAgent, size: Size) -> None:
    status = await first.until(lambda status: bool(status["waiting"]), PATIENCE_S)
    waiting = status["waiting"][0]
    stage.show(waiting["reason"])
    missing = waiting["missing_gb"]
    stage.check("status says how many GB are short", abs(missing - (size.alone - size.limit)) < 0.002, missing)
    refused = await ask(first, MODEL, "Tell me", tokens=16)
    stage.check("so does the answer to a request", refused.status == 503 and "GB short" in refused.error, refused)
    stage.check("which says when to come again", "Retry-After" in refused.headers, refused.headers)


async def _splits(stage: Stage, first: LocalAgent, size: Size, expected: Answer) -> None:
    joining = ("--vram-limit", f"{size.limit:.6f}", "--join", await first.token("member"))
    async with stage.agents.start("second", joining) as second:
        shown = await until_served(second, MODEL, "split")
        stage.show(shown["reason"])
        names = {one["name"] for one in shown["workers"]}
        stage.check("the model is split over both by itself", names == {"first", "second"}, shown["workers"])
        answer = await ask(second, MODEL, "Tell me", tokens=16)
        stage.check("and answers what one node alone did", answer.text == expected.text, (answer.body, expected))


async def _is_refused(stage: Stage, tiny: LocalAgent) -> None:
    status = await tiny.until(lambda status: "cannot fit" in entry(status, MODEL).get("reason", ""), PATIENCE_S)
    reason = entry(status, MODEL)["reason"]
    stage.show(reason)
    stage.check("it is refused, with the arithmetic", "cannot fit" in reason and "nodes" in reason, reason)
    refused = await ask(tiny, MODEL, "Tell me", tokens=16)
    stage.check("and so is a request", refused.status == 503 and "cannot fit" in refused.error, refused)
