"""A drafter on another host, through real agents and a UDP relay: the same answers at any distance, and without it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import psutil
import pytest
import pytest_asyncio

from bench.draft_mesh import MODES, Stage, measure, staged, story, write_models

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
pytest.importorskip("llama_cpp")  # the extra `llm`

BALLAST_ROWS = 40 << 10
TOKENS = 400
"""So many that on a quiet machine, too, an answer takes several times as long as the way to the drafter."""
ROUNDS = 2
WAIT_S = 120.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("far")
    async with staged(folder / "agents", *write_models(folder, BALLAST_ROWS), TOKENS) as stage:
        yield stage


async def test_at_two_distances_the_formula_holds_and_no_answer_changes(stage: Stage) -> None:
    """The figures proper are `bench.draft`'s: beside other tests only what is grossly wrong shows."""
    near = await measure(stage, 0.0, ROUNDS, None)
    far = await measure(stage, 150.0, ROUNDS, near)
    for one in (near, far):
        assert one.same == one.asked == 2 * ROUNDS
        assert one.tokens_per_block > 3, "the drafter is right by construction"
    # The way is nearly all of a block there, however busy this machine is.
    assert 0.5 < far.speedups["forced"] / far.predicted < 2
    assert far.round_trip_ms > near.round_trip_ms
    # A token takes far less than the ninth part of that: forced drafts lose, and the controller does not draft.
    assert far.speedups["forced"] < near.speedups["forced"]
    assert far.speedups["automatic"] > far.speedups["forced"]
    assert far.state in ("off", "never")


async def test_status_says_who_drafts_and_why_it_does_or_does_not(stage: Stage) -> None:
    status = await stage.host.status()
    (drafter,) = status["drafting"]["drafters"]
    assert (drafter["node"], drafter["model"]) == ("drafter", "small")
    assert drafter["token_ms"] > 0
    await stage.be_apart(150.0)
    await stage.answer(story(1), **MODES["forced"])
    (model,) = (await stage.host.status())["drafting"]["models"]
    assert (model["model"], model["drafter"], model["node"]) == ("target", "small", "drafter")
    assert model["blocks"] > 0
    assert 0 < model["accepted"] <= model["drafted"]
    assert f"{model['round_trip_ms']}" in model["reason"]


async def test_a_drafter_that_is_killed_in_a_block_ends_no_answer(stage: Stage) -> None:
    await stage.be_apart(150.0)
    plain = await stage.answer(story(2), **MODES["plain"])
    before = await _blocks(stage)
    async with asyncio.TaskGroup() as group:
        answering = group.create_task(stage.answer(story(2), **MODES["forced"]))
        async with asyncio.timeout(WAIT_S):
            # With 150 ms there and back a block is under way nearly always.
            while await _blocks(stage) == before and not answering.done():
                await asyncio.sleep(0.02)
        os.kill(_drafting_process(stage), signal.SIGKILL)
    said = answering.result()
    assert said.text == plain.text
    assert said.plain_tokens > 0
    # It is started again, and drafts for the next who asks.
    async with asyncio.timeout(WAIT_S):
        while (again := await stage.answer(story(2), **MODES["forced"])).blocks == 0:
            assert again.text == plain.text
    assert again.text == plain.text


async def test_an_agent_that_stands_still_is_not_waited_for(stage: Stage) -> None:
    await stage.be_apart(0.0)
    plain = await stage.answer(story(3), **MODES["plain"])
    async with asyncio.TaskGroup() as group:
        answering = group.create_task(stage.answer(story(3), **MODES["forced"]))
        os.kill(stage.drafter.child.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(WAIT_S):
                said = await answering
        finally:
            os.kill(stage.drafter.child.pid, signal.SIGCONT)
    assert said.text == plain.text


async def _blocks(stage: Stage) -> int:
    """So many were drafted for the model so far; nothing is told of it before the first question."""
    return sum(model["blocks"] for model in (await stage.host.status())["drafting"]["models"])


def _drafting_process(stage: Stage) -> int:
    children = psutil.Process(stage.drafter.child.pid).children(recursive=True)
    return int(next(one.pid for one in children if "llm.sessions.drafter_child" in one.cmdline()))
