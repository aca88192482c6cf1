"""The echo engine keeps the engine contract, its pace and its words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from llm.engines.echo import EchoEngine, EchoOptions
from llm.engines.interface import Engine, EngineFailed, EngineState
from tests.llm.engine_contract import EngineContract
from tests.llm.requests import chat, get, post, read, streamed_text
from transport.virtual_time import VirtualTimeLoop

loop_factory = VirtualTimeLoop


@asynccontextmanager
async def running(options: EchoOptions | None = None) -> AsyncIterator[EchoEngine]:
    engine = EchoEngine("tiny", options)
    async with asyncio.TaskGroup() as group:
        run = group.create_task(engine.run())
        await engine.changed()
        yield engine
        run.cancel()


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with running() as engine:
        yield engine


class TestEcho(EngineContract):
    """The shared suite."""


async def test_says_the_prompt_again_up_to_max_tokens() -> None:
    async with running() as engine:
        answer = json.loads(await read(await engine.answer(chat(text="a b c", max_tokens=5))))
        assert answer["choices"][0]["message"]["content"] == "a b c a b"
        assert answer["choices"][0]["finish_reason"] == "length"


async def test_without_max_tokens_the_answer_is_as_long_as_the_prompt() -> None:
    async with running() as engine:
        body = await read(await engine.answer(chat(text='say "hi" — ünïcode', stream=True)))
        assert streamed_text(body) == 'say "hi" — ünïcode'


async def test_text_completion() -> None:
    async with running() as engine:
        request = post("tiny", "/v1/completions", b'{"model": "tiny", "prompt": "x y", "max_tokens": 3}')
        answer = json.loads(await read(await engine.answer(request)))
        assert answer["object"] == "text_completion"
        assert answer["choices"][0]["text"] == "x y x"


async def test_lists_itself() -> None:
    async with running() as engine:
        models = json.loads(await read(await engine.answer(get("tiny", "/v1/models"))))
        assert [model["id"] for model in models["data"]] == ["tiny"]


async def test_keeps_its_pace_streaming_and_not() -> None:
    async with running(EchoOptions(tokens_per_s=10.0)) as engine:
        loop = asyncio.get_running_loop()
        for stream in (True, False):
            start = loop.time()
            await read(await engine.answer(chat(max_tokens=20, stream=stream)))
            assert loop.time() - start == pytest.approx(2.0, abs=0.11)


async def test_answers_beyond_its_slots_wait() -> None:
    async with running(EchoOptions(tokens_per_s=10.0, slots=2)) as engine:
        loop = asyncio.get_running_loop()
        start = loop.time()
        await asyncio.gather(*[read(await engine.answer(chat(max_tokens=10))) for _ in range(4)])
        assert loop.time() - start == pytest.approx(2.0, abs=0.1)


async def test_closing_frees_the_slot_at_once() -> None:
    async with running(EchoOptions(tokens_per_s=1.0, slots=1)) as engine:
        loop = asyncio.get_running_loop()
        first = await engine.answer(chat(max_tokens=100, stream=True))
        await anext(first.chunks())
        waiting = await engine.answer(chat(max_tokens=1, stream=True))
        await first.close()
        start = loop.time()
        await read(waiting)
        assert loop.time() - start <= 2.0


@pytest.mark.parametrize("limit", [-1, 10**9, "many", 1.5])
async def test_unreasonable_max_tokens_are_refused(limit: object) -> None:
    async with running() as engine:
        request = chat()
        body = json.loads(request.body) | {"max_tokens": limit}
        reply = await engine.answer(post("tiny", request.path, json.dumps(body).encode()))
        error = json.loads(await read(reply))["error"]
        assert reply.status == 400
        assert error["param"] == "max_tokens"


async def test_stopped_engine_refuses_and_says_so() -> None:
    engine = EchoEngine("tiny")
    assert engine.status.state is EngineState.STOPPED
    with pytest.raises(EngineFailed, match="stopped") as failure:
        await engine.answer(chat())
    assert failure.value.retryable
