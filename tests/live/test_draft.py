"""A draft model is used where it fits, and refused where it does not."""

from __future__ import annotations

import asyncio
from pathlib import Path

from meshd.local_agents import LocalAgents, last_lines
from tests.live.toy import SERVES_TOY, engine_process
from tests.llm.tiny_gguf import write_tiny_gguf
from tools.scenarios.stage import ask, until_served

MODEL = "meshd-toy"
EXIT_TIMEOUT_S = 30


async def test_a_draft_of_another_vocabulary_is_refused_with_the_reason(agents: LocalAgents, tmp_path: Path) -> None:
    draft = write_tiny_gguf(tmp_path / "other.gguf")
    async with agents.launched("host", [*SERVES_TOY, "--draft", str(draft)]) as host:
        assert await asyncio.wait_for(host.child.wait(), EXIT_TIMEOUT_S) == 1

    said = last_lines(host.log)
    assert "other.gguf: its vocabulary is not that of meshd-toy.gguf" in said
    assert "Traceback" not in said


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
