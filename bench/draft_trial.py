"""What a node finds out about llama-server's own drafts: `python -m bench.draft_trial [--json] [--only NAME …]`.

Generated targets, light or with ballast, so that a token takes as long as in a larger model, and drafters that know
what comes: a small model that recalls the same (`draft-simple`), EAGLE-3, DFlash, DSpark and a model's own heads
(tests/llm/cycle_model.py); EAGLE-3 that is always wrong; the toy with its own draft model and with n-grams. Each
answers until the node has decided (llm/engines/trial.py), and says what it made of them.

`--record FILE` writes series for tests/llm/test_trial_series.py instead: answers with drafts and without in turns, of
two engines side by side, while other work comes and goes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path

from bench.row import Row
from llm.demo import DRAFT_MODEL
from llm.engines.cpu_clock import cpu_seconds
from llm.engines.drafts import Draft, DraftChoice, draft_arguments
from llm.engines.interface import Drafting, EngineFailed, EngineState, Request
from llm.engines.llama_arguments import LlamaServerOptions
from llm.engines.llama_server import LlamaServerEngine
from llm.engines.timings import TimingsReader
from llm.pairing import DraftKind
from meshd.launcher import ProcessLauncher
from tests.llm.cycle_model import NO_BALLAST, Kind, write_cycle_drafter, write_cycle_model
from tests.llm.sessions.recall_model import WORDS, word, write_recall_model
from tools.scenarios.stage import TOY

BALLAST = 32 << 10
TOKENS = 96
STORY_WORDS = 40
QUESTION = "<|im_start|>user\nTell me about meshd.<|im_end|>\n<|im_start|>assistant\n"
KINDS: dict[Kind, DraftKind] = {"eagle3": "draft-eagle3", "dflash": "draft-dflash", "dspark": "draft-dspark"}
DEADLINE_S = 600.0
TURNS, OTHERS = 48, 6
RECORDED = (
    "heavy target, small draft",
    "toy, its draft",
    "toy, n-grams",
    "heavy target, draft-eagle3",
    "heavy target, draft-dflash",
    "heavy target, draft-mtp",
)


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    model: Path
    draft: DraftChoice
    prompt: str
    threads: int


def story() -> str:
    """Words said twice, so that a model that recalls goes on with them."""
    return "".join(map(word, random.Random(1).sample(range(300, WORDS), STORY_WORDS))) * 2


def cases(folder: Path, threads: int = 1) -> Iterator[Case]:
    small = Draft(write_recall_model(folder / "small.gguf", quantised=True))
    light = write_recall_model(folder / "light.gguf", quantised=True)
    heavy = write_recall_model(folder / "heavy.gguf", quantised=True, ballast=BALLAST)
    yield Case("light target, small draft", light, small, story(), threads)
    yield Case("heavy target, small draft", heavy, small, story(), threads)
    yield Case("toy, its draft", TOY, Draft(DRAFT_MODEL), QUESTION, threads)
    yield Case("toy, n-grams", TOY, "ngram", QUESTION, threads)
    for weight, ballast in (("light", NO_BALLAST), ("heavy", 2 * BALLAST)):
        cycle = write_cycle_model(folder / f"{weight}-cycle.gguf", ballast=ballast)
        for kind, how in KINDS.items():
            drafter = Draft(write_cycle_drafter(folder / f"{kind}.gguf", kind), kind=how)
            yield Case(f"{weight} target, {how}", cycle, drafter, QUESTION, threads)
        heads = write_cycle_model(folder / f"{weight}-head.gguf", heads=1, ballast=ballast)
        yield Case(f"{weight} target, draft-mtp", heads, "own-heads", QUESTION, threads)
        wrong = Draft(write_cycle_drafter(folder / "wrong.gguf", "eagle3", is_wrong=True), kind="draft-eagle3")
        yield Case(f"{weight} target, draft-eagle3 that is always wrong", cycle, wrong, QUESTION, threads)


def options_of(case: Case, folder: Path, draft: DraftChoice | None) -> LlamaServerOptions:
    log = folder / "it.log"
    return LlamaServerOptions(case.model, "it", log, context_tokens=1024, slots=1, threads=case.threads, draft=draft)


def request_of(case: Case) -> Request:
    body = {"prompt": case.prompt, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
    headers = (("content-type", "application/json"),)
    return Request("bench", "it", "POST", "/v1/completions", headers, json.dumps(body).encode(), DEADLINE_S)


async def ready(engine: LlamaServerEngine) -> None:
    while engine.status.state is not EngineState.READY:
        await engine.changed()


async def said(engine: LlamaServerEngine, request: Request) -> bytes:
    reply = await engine.answer(request)
    try:
        return b"".join([chunk async for chunk in reply.chunks()])
    finally:
        await reply.close()


async def compared(case: Case, folder: Path) -> Drafting:
    """Ask until the node knows; what it says."""
    engine = LlamaServerEngine(options_of(case, folder, case.draft), ProcessLauncher(os.environ))
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        running = group.create_task(engine.run())
        while engine.trial.state == "tried":
            await ready(engine)
            try:
                await said(engine, request_of(case))
            except EngineFailed:
                continue  # it starts again
        await ready(engine)
        running.cancel()
    drafting = engine.status.drafting
    assert drafting is not None
    return drafting


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer with drafts or without. tokens: in all, drafted, accepted."""

    clock_s: float
    cpu_s: float
    tokens: tuple[int, int, int]


async def turn(engine: LlamaServerEngine, request: Request) -> Turn:
    assert engine.pid is not None
    clock, cpus = TimingsReader(is_alone=True), TimingsReader(is_alone=True, cpu_s=cpu_seconds(engine.pid))
    answer = await said(engine, request)
    clock.feed(answer)
    cpus.feed(answer)
    by_clock, by_cpus = clock.told(), cpus.told(cpu_seconds(engine.pid))
    assert by_clock is not None
    assert by_cpus is not None
    tokens = (by_clock.tokens, by_clock.drafted, by_clock.accepted)
    return Turn(round(by_clock.seconds, 5), round(by_cpus.seconds, 5), tokens)


async def recorded(case: Case, folder: Path) -> list[tuple[Turn, Turn]]:
    """TURNS answers without drafts and with them in turns. Other work comes after a third, and goes after another."""
    always = replace(options_of(case, folder, None), more_arguments=tuple(draft_arguments(case.draft)))
    plain, drafting = (
        LlamaServerEngine(options, ProcessLauncher(os.environ))
        for options in (replace(options_of(case, folder, None), log=folder / "plain.log"), always)
    )
    found = []
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        running = [group.create_task(engine.run()) for engine in (plain, drafting)]
        for engine in (plain, drafting):
            await ready(engine)
        with ExitStack() as others:
            for number in range(TURNS):
                if number == TURNS // 3:
                    others.enter_context(busy(OTHERS))
                if number == 2 * TURNS // 3:
                    others.close()
                found.append((await turn(plain, request_of(case)), await turn(drafting, request_of(case))))
        for task in running:
            task.cancel()
    return found


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Other work: so many processes that compute all the time."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


async def run(only: list[str], threads: int) -> list[tuple[Case, Drafting]]:
    with tempfile.TemporaryDirectory() as folder:
        every = cases(Path(folder), threads)
        chosen = [case for case in every if not only or any(name in case.name for name in only)]
        return [(case, await compared(case, Path(folder))) for case in chosen]


async def record() -> str:
    with tempfile.TemporaryDirectory() as folder:
        chosen = [case for case in cases(Path(folder)) if case.name in RECORDED]
        series = {
            case.name: [list(map(astuple, pair)) for pair in await recorded(case, Path(folder))] for case in chosen
        }
    lines = [f'"{name}": {json.dumps(pairs, separators=(",", ":"))}' for name, pairs in series.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.draft_trial", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="*", default=[], help="cases that have one of these in their name")
    parser.add_argument("--threads", type=int, default=1, help="of each engine")
    parser.add_argument("--record", type=Path, help="write series for the tests instead")
    options = parser.parse_args()
    if options.record:
        options.record.write_text(asyncio.run(record()))
        return
    found = asyncio.run(run(options.only, options.threads))
    if options.json:
        rows = [
            Row(case.name, one.speedup, 1.0, "without drafts", one.speedup, "times as fast", "higher", 1.05)
            for case, one in found
        ]
        print(json.dumps({"name": "draft-trial", "machine": platform.machine(), "rows": [asdict(row) for row in rows]}))
        return
    for case, one in found:
        print(f"{case.name}: {one.reason}")


if __name__ == "__main__":
    main()
