"""What a node finds out about llama-server's own drafts: `python -m bench.draft_trial [--json]`.

A generated target that recalls by construction, light or with ballast, beside a small one that recalls the same, with
llama-server's `draft-simple`; the toy with its own draft model; and the toy with n-grams. Each answers until the node
has compared five answers with drafts and five without (llm/engines/trial.py), and says what it made of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.row import Row
from llm.demo import DRAFT_MODEL
from llm.engines.drafts import Draft, DraftChoice
from llm.engines.interface import EngineFailed, EngineState, Request
from llm.engines.llama_arguments import LlamaServerOptions
from llm.engines.llama_server import LlamaServerEngine
from llm.engines.trial import Trial
from meshd.launcher import ProcessLauncher
from tests.llm.sessions.recall_model import WORDS, word, write_recall_model
from tools.scenarios.stage import TOY

BALLAST = 32 << 10
TOKENS = 96
STORY_WORDS = 40
DEADLINE_S = 600.0


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    model: Path
    draft: DraftChoice


def story() -> str:
    """Words said twice, so that a model that recalls goes on with them."""
    return "".join(map(word, random.Random(1).sample(range(300, WORDS), STORY_WORDS))) * 2


def cases(folder: Path) -> Iterator[Case]:
    small = Draft(write_recall_model(folder / "small.gguf", quantised=True))
    yield Case("light target, small draft", write_recall_model(folder / "light.gguf", quantised=True), small)
    heavy = write_recall_model(folder / "heavy.gguf", quantised=True, ballast=BALLAST)
    yield Case("heavy target, small draft", heavy, small)
    yield Case("toy, its draft", TOY, Draft(DRAFT_MODEL))
    yield Case("toy, n-grams", TOY, "ngram")


async def compared(case: Case, folder: Path) -> Trial:
    """Ask until the node knows."""
    options = LlamaServerOptions(
        case.model, "it", folder / "it.log", context_tokens=1024, slots=1, threads=1, draft=case.draft
    )
    engine = LlamaServerEngine(options, ProcessLauncher(os.environ))
    said = story() if case.model != TOY else "<|im_start|>user\nTell me about meshd.<|im_end|>\n<|im_start|>assistant\n"
    body = {"prompt": said, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
    headers = (("content-type", "application/json"),)
    request = Request("bench", "it", "POST", "/v1/completions", headers, json.dumps(body).encode(), DEADLINE_S)
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        running = group.create_task(engine.run())
        while engine.trial.state == "tried":
            while engine.status.state is not EngineState.READY:
                await engine.changed()
            try:
                reply = await engine.answer(request)
            except EngineFailed:
                continue  # it starts again
            async for _ in reply.chunks():
                pass
            await reply.close()
        running.cancel()
    return engine.trial


async def run() -> list[tuple[Case, Trial]]:
    with tempfile.TemporaryDirectory() as folder:
        return [(case, await compared(case, Path(folder))) for case in cases(Path(folder))]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.draft_trial", description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = asyncio.run(run())
    if options.json:
        rows = [
            Row(case.name, trial.speedup, 1.0, "without drafts", trial.speedup, "times as fast", "higher", 1.05)
            for case, trial in found
        ]
        print(json.dumps({"name": "draft-trial", "machine": platform.machine(), "rows": [asdict(row) for row in rows]}))
        return
    for case, trial in found:
        print(f"{case.name}: {trial.words()}")


if __name__ == "__main__":
    main()
