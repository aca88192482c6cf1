"""The real llama-server with each way to draft, started as meshd starts it: nothing but the speed may change.

Drafters that know what comes have to be believed, wrong ones never; neither may change an answer.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llm.engines import llama_server
from llm.engines.drafts import Draft, DraftChoice
from llm.engines.interface import EngineFailed, EngineState, Request
from llm.engines.llama_arguments import LlamaServerOptions
from llm.engines.llama_server import LlamaServerEngine
from llm.gguf import read_header
from llm.pairing import has_own_heads, pair
from meshd.launcher import ProcessLauncher
from tests.llm.block_drafter import Kind as RandomKind
from tests.llm.block_drafter import write_block_drafter
from tests.llm.cycle_model import LETTERS, Kind, write_cycle_drafter, write_cycle_model
from tests.llm.gemma_cycle import write_gemma_assistant, write_gemma_cycle
from tests.llm.requests import chat, read
from tests.llm.tiny_gguf import write_tiny_gguf

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

READY_TIMEOUT_S = 120.0
TOKENS = 64


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    timings: dict[str, Any]


@asynccontextmanager
async def serving(model: Path, draft: DraftChoice | None, log: Path) -> AsyncIterator[LlamaServerEngine]:
    options = LlamaServerOptions(model, "it", log, context_tokens=1024, slots=1, threads=1, draft=draft)
    engine = LlamaServerEngine(options, ProcessLauncher(os.environ))
    async with asyncio.TaskGroup() as group:
        run = group.create_task(engine.run())
        async with asyncio.timeout(READY_TIMEOUT_S):
            while engine.status.state is not EngineState.READY:
                assert engine.status.state is not EngineState.FAILED, engine.status.reason
                await engine.changed()
        yield engine
        run.cancel()


async def asked(engine: LlamaServerEngine, request: Request) -> Answer:
    reply = await engine.answer(request)
    try:
        said = json.loads(await read(reply))
    finally:
        await reply.close()
    return Answer(said["choices"][0]["message"]["content"], said["timings"])


async def asked_when_ready(engine: LlamaServerEngine) -> Answer:
    """Ask until it is not about to start again. Raises EngineFailed where an answer breaks off."""
    while True:
        while engine.status.state is not EngineState.READY:
            await engine.changed()
        try:
            return await asked(engine, chat(max_tokens=TOKENS, temperature=0))
        except EngineFailed as error:
            if "it is loading" not in str(error):
                raise


async def answer(model: Path, draft: DraftChoice | None, folder: Path) -> Answer:
    async with serving(model, draft, folder / "engine.log") as engine:
        return await asked(engine, chat(max_tokens=TOKENS, temperature=0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drafts")


@pytest.fixture(scope="module")
def cycle(folder: Path) -> Path:
    return write_cycle_model(folder / "cycle.gguf")


@pytest.mark.parametrize("kind", ["eagle3", "dflash", "dspark"])
async def test_a_drafter_that_knows_what_comes_is_believed(cycle: Path, folder: Path, kind: Kind) -> None:
    drafter = write_cycle_drafter(folder / f"{kind}.gguf", kind)
    how = pair(read_header(cycle), read_header(drafter)).kind
    assert how == f"draft-{kind}"

    drafted = await answer(cycle, Draft(drafter, kind=how), folder)

    assert drafted.text == LETTERS * (TOKENS // len(LETTERS))
    # DFlash and DSpark look one cycle back: until there is one, they guess.
    assert drafted.timings["draft_n_accepted"] >= TOKENS // 2
    assert drafted.timings["draft_n_accepted"] >= drafted.timings["draft_n"] / 2


@pytest.mark.parametrize(("heads", "is_wrong"), [(1, False), (1, True), (2, False)])
async def test_heads_of_its_own_draft(folder: Path, heads: int, is_wrong: bool) -> None:
    model = write_cycle_model(folder / "head.gguf", heads=heads, is_wrong=is_wrong)
    assert has_own_heads(read_header(model))

    drafted = await answer(model, "own-heads", folder)

    assert drafted.text == LETTERS * (TOKENS // len(LETTERS))
    assert drafted.timings["draft_n"] > 0
    assert drafted.timings["draft_n_accepted"] == (0 if is_wrong else drafted.timings["draft_n"])


async def test_heads_in_a_file_of_their_own_draft(folder: Path) -> None:
    model = write_cycle_model(folder / "headed.gguf", heads=1)
    heads = write_cycle_drafter(folder / "heads.gguf", "head")
    how = pair(read_header(model), read_header(heads)).kind
    assert how == "draft-mtp"

    drafted = await answer(model, Draft(heads, kind=how), folder)

    assert drafted.text == LETTERS * (TOKENS // len(LETTERS))
    assert drafted.timings["draft_n_accepted"] == drafted.timings["draft_n"] > 0


async def test_an_assistant_drafts_by_what_its_model_has_kept(folder: Path) -> None:
    model, assistant = write_gemma_cycle(folder / "gemma.gguf"), write_gemma_assistant(folder / "assistant.gguf")
    how = pair(read_header(model), read_header(assistant)).kind
    assert how == "draft-mtp"

    drafted = await answer(model, Draft(assistant, kind=how), folder)

    assert drafted.text == LETTERS * (TOKENS // len(LETTERS))
    assert drafted.timings["draft_n_accepted"] == drafted.timings["draft_n"] > 0


@pytest.fixture(scope="module")
def random(folder: Path) -> Path:
    return write_tiny_gguf(folder / "random.gguf")


async def test_random_drafts_change_no_answer(random: Path, folder: Path) -> None:
    plain = await answer(random, None, folder)
    kinds: tuple[RandomKind, ...] = ("eagle3", "dflash", "dspark")
    for kind in kinds:
        drafter = write_block_drafter(folder / f"random-{kind}.gguf", kind)
        how = pair(read_header(random), read_header(drafter)).kind
        assert how == f"draft-{kind}"

        drafted = await answer(random, Draft(drafter, kind=how), folder)

        assert drafted.text == plain.text, kind
        assert drafted.timings["draft_n"] > 0, kind
    assert "draft_n" not in plain.timings


async def test_a_drafter_that_is_never_right_is_turned_off(cycle: Path, folder: Path) -> None:
    wrong = write_cycle_drafter(folder / "wrong.gguf", "eagle3", is_wrong=True)
    texts = set()
    async with serving(cycle, Draft(wrong, kind="draft-eagle3"), folder / "wrong.log") as engine:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while "draft_n" in (said := await asked_when_ready(engine)).timings:
                texts.add(said.text)
        texts.add(said.text)
        assert engine.trial.state == "off"
        assert "off: 0% of drafted tokens stand; started again once for that" in engine.status.reason
    assert texts == {LETTERS * (TOKENS // len(LETTERS))}


async def test_a_drafter_that_llama_server_dies_of_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pairing refuses it beforehand: it reads layers that llama.cpp does not hand out of this architecture."""
    monkeypatch.setattr(llama_server, "FIRST_BACKOFF_S", 0.01)
    model = write_cycle_model(folder / "reticent.gguf", heads=1)
    eagle = write_block_drafter(folder / "curious.gguf", "eagle3")
    assert pair(read_header(model), read_header(eagle)).kind is None
    deaths = []
    async with serving(model, Draft(eagle, kind="draft-eagle3"), folder / "dies.log") as engine:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while True:
                try:
                    said = await asked_when_ready(engine)
                    break
                except EngineFailed as error:
                    deaths.append(str(error))
        assert engine.trial.state == "broken"
    assert said.text == LETTERS * (TOKENS // len(LETTERS))
    assert len(deaths) == 2
    assert all("layer input tensor is null" in death for death in deaths)
