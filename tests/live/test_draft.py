"""A draft model is used where it fits, and refused where it does not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from meshd.local_agents import LocalAgents, last_lines
from tests.live.toy import SERVES_TOY, TOY, engine_process
from tests.llm.cycle_model import LETTERS, write_cycle_drafter, write_cycle_model
from tests.llm.fake_hub import fake_hub
from tests.llm.tiny_gguf import write_tiny_gguf
from tools.scenarios.stage import PATIENCE_S, ask, until_served

MODEL = "meshd-toy"
EXIT_TIMEOUT_S = 90


async def test_a_draft_of_another_vocabulary_is_refused_with_the_reason(agents: LocalAgents, tmp_path: Path) -> None:
    draft = write_tiny_gguf(tmp_path / "other.gguf")
    async with agents.launched("host", [*SERVES_TOY, "--draft", str(draft)]) as host:
        assert await asyncio.wait_for(host.child.wait(), EXIT_TIMEOUT_S) == 1

    said = last_lines(host.log)
    assert "other.gguf: it cannot propose tokens to meshd-toy.gguf: its tokenizer is 'llama', the model's" in said
    assert "Traceback" not in said


async def test_a_draft_may_be_brought_as_models_are(agents: LocalAgents) -> None:
    draft = TOY.with_name("meshd-toy-draft.gguf").read_bytes()
    with fake_hub(o__toy={TOY.name: TOY.read_bytes()}, o__draft={"small.gguf": draft}) as hub:
        online = replace(agents, environment={"HF_ENDPOINT": hub.url})
        arguments = ["--threads", "1", "--model", "hf:o/toy", "--draft", "hf:o/draft"]
        for _ in range(2):  # it comes, and is here the next time
            async with online.start("host", arguments) as host:
                await until_served(host, MODEL, "solo")
                command = engine_process(host).cmdline()
                assert command[command.index("--spec-draft-model") + 1].endswith("/small.gguf")
                assert (await ask(host, MODEL, "What is meshd?")).body["timings"]["draft_n"] > 0


async def test_a_draft_that_nobody_has_is_told(agents: LocalAgents) -> None:
    async with agents.launched("host", [*SERVES_TOY, "--draft", "nothing"]) as host:
        assert await asyncio.wait_for(host.child.wait(), EXIT_TIMEOUT_S) == 1
    assert "--draft nothing: there is no such file, nor a model of that name on this node" in last_lines(host.log)


async def test_a_drafter_made_for_the_model_is_found_beside_it(agents: LocalAgents, tmp_path: Path) -> None:
    model = write_cycle_model(tmp_path / "cycle.gguf")
    write_cycle_drafter(tmp_path / "eagle.gguf", "eagle3")
    arguments = ["--threads", "1", "--ctx", "1024", "--model", str(model), "--draft", "auto"]
    async with agents.start("host", arguments) as host:
        await until_served(host, "cycle", "solo")
        answer = await ask(host, "cycle", "What comes?", tokens=64)

        assert answer.text == LETTERS * 8
        assert answer.body["timings"]["draft_n_accepted"] == answer.body["timings"]["draft_n"] > 0
        assert "draft-eagle3" in engine_process(host).cmdline()
        counted = answer.body["timings"]["draft_n"]
        told = await host.until(lambda status: status["drafting"]["here"][0]["accepted"] == counted, PATIENCE_S)
        (row,) = told["drafting"]["here"]
        assert (row["drafter"], row["is_drafting"]) == ("eagle.gguf (draft-eagle3)", True)


async def test_what_was_said_before_may_serve_as_the_draft(agents: LocalAgents) -> None:
    question = "Say this again: one two three four five six seven, one two three four five six seven."
    async with agents.start("plain", SERVES_TOY) as plain:
        await until_served(plain, MODEL, "solo")
        expected = await ask(plain, MODEL, question)
    async with agents.start("drafting", [*SERVES_TOY, "--draft", "ngram"]) as drafting:
        await until_served(drafting, MODEL, "solo")
        answer = await ask(drafting, MODEL, question)

        assert "ngram-simple" in engine_process(drafting).cmdline()

    assert answer.text == expected.text
