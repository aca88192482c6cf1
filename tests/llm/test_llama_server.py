"""The real llama-server keeps the engine contract, and what only a child process can do to us is survived."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest

from llm.engines import comparison, llama_server
from llm.engines.drafts import Draft
from llm.engines.interface import Engine, EngineFailed, EngineState, Request
from llm.engines.llama_arguments import LlamaServerOptions, arguments
from llm.engines.llama_binary import LlamaBinary, find_llama_server
from llm.engines.llama_server import LlamaServerEngine
from llm.pairing import DraftKind
from meshd.launcher import ProcessLauncher
from tests.llm.engine_contract import EngineContract
from tests.llm.mesh import mesh
from tests.llm.requests import chat, get, read
from tests.llm.tiny_gguf import write_tiny_gguf

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

READY_TIMEOUT_S = 120.0
PROMISED_S = 5.0
SHARED_MACHINE_S = 30.0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reads about a thousand tokens a second on one core, so that a prompt can be interrupted."""
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "slow.gguf", width=256, layers=6, context_tokens=32768)


def make_engine(
    model: Path, folder: Path, *more_arguments: str, context_tokens: int = 8192, pulse_timeout_s: float = 5.0
) -> LlamaServerEngine:
    options = LlamaServerOptions(
        model=model,
        name="tiny",
        log=folder / "engine.log",
        context_tokens=context_tokens,
        slots=2,
        threads=1,
        pulse_timeout_s=pulse_timeout_s,
        more_arguments=more_arguments,
    )
    return LlamaServerEngine(options, ProcessLauncher(os.environ))


@asynccontextmanager
async def running(
    engine: LlamaServerEngine, until: EngineState = EngineState.READY
) -> AsyncIterator[LlamaServerEngine]:
    async with asyncio.TaskGroup() as group:
        run = group.create_task(engine.run())
        await wait_for(engine, until)
        yield engine
        run.cancel()
    assert engine.status.state is EngineState.STOPPED


async def wait_for(engine: Engine, state: EngineState) -> float:
    """How long it took until the engine was in that state."""
    start = time.monotonic()
    async with asyncio.timeout(READY_TIMEOUT_S):
        while engine.status.state is not state:
            await engine.changed()
    return time.monotonic() - start


def kill(engine: LlamaServerEngine, how: signal.Signals = signal.SIGKILL) -> None:
    assert engine.pid is not None
    os.kill(engine.pid, how)


async def busy_slots(engine: Engine) -> int:
    slots = json.loads(await read(await engine.answer(get("tiny", "/slots"))))
    return sum(slot["is_processing"] for slot in slots)


async def slots_become(engine: Engine, busy: int, within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while True:
            if await busy_slots(engine) == busy:
                return
            await asyncio.sleep(0.02)


def read_log(folder: Path) -> str:
    return (folder / "engine.log").read_text()


async def log_says(folder: Path, words: str) -> None:
    """Wait until llama-server has written `words`; there is nothing else to wait for."""
    async with asyncio.timeout(60):
        while True:
            if words in read_log(folder):
                return
            await asyncio.sleep(0.02)


async def ask_and_read(engine: Engine, request: Request) -> bytes:
    return await read(await engine.answer(request))


def secret_of(engine: LlamaServerEngine) -> tuple[str, str]:
    """The key in the child's environment, and its command line."""
    environment = Path(f"/proc/{engine.pid}/environ").read_text()
    (key,) = [item.partition("=")[2] for item in environment.split("\0") if item.startswith("LLAMA_API_KEY=")]
    return key, Path(f"/proc/{engine.pid}/cmdline").read_text()


@pytest.fixture
async def engine(tiny: Path, tmp_path: Path) -> AsyncIterator[LlamaServerEngine]:
    async with running(make_engine(tiny, tmp_path)) as engine:
        yield engine


class TestLlamaServer(EngineContract):
    """The shared suite."""


async def test_each_slot_has_the_whole_context_asked_for(engine: LlamaServerEngine) -> None:
    assert engine.status.context_tokens == 8192


async def test_other_paths_of_llama_server_pass_through(engine: LlamaServerEngine) -> None:
    props = json.loads(await read(await engine.answer(get("tiny", "/props"))))
    assert props["total_slots"] == 2


async def test_key_is_in_no_process_list_and_no_log(engine: LlamaServerEngine, tmp_path: Path) -> None:
    key, command_line = secret_of(engine)
    assert len(key) >= 32
    assert key not in command_line
    assert key not in read_log(tmp_path)


async def test_leaving_a_stream_frees_the_slot_within_a_second(engine: LlamaServerEngine) -> None:
    reply = await engine.answer(chat(max_tokens=8000, stream=True))
    await anext(reply.chunks())
    assert await busy_slots(engine) == 1
    await reply.close()
    await slots_become(engine, 0, within_s=1)


@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_during_the_prompt_ends_it(slow: Path, tmp_path: Path, stream: bool) -> None:
    async with running(make_engine(slow, tmp_path, "--batch-size", "256", context_tokens=12000)) as engine:
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(ask_and_read(engine, chat(text="a" * 10000, max_tokens=1, stream=stream)))
            await log_says(tmp_path, "processing task")
            asking.cancel()
        assert engine.status.in_flight == 0
        # It looks for its client once a second; to ask for its slots meanwhile would put that off.
        await log_says(tmp_path, "cancel task")
        await slots_become(engine, 0, within_s=2)
        assert "prompt eval time" not in read_log(tmp_path)


async def test_killed_half_way_is_told_and_it_comes_back(engine: LlamaServerEngine) -> None:
    reply = await engine.answer(chat(max_tokens=8000, stream=True))
    chunks = reply.chunks()
    await anext(chunks)
    start = time.monotonic()
    kill(engine)
    with pytest.raises(EngineFailed, match="killed by SIGKILL") as failure:
        async for _ in chunks:
            pass
    assert time.monotonic() - start < PROMISED_S + SHARED_MACHINE_S
    assert not failure.value.retryable
    await reply.close()
    assert engine.status.state is EngineState.FAILED
    assert "killed by SIGKILL" in engine.status.reason
    with pytest.raises(EngineFailed) as refusal:
        await engine.answer(chat())
    assert refusal.value.retryable
    await wait_for(engine, EngineState.READY)
    assert (await read(await engine.answer(chat(max_tokens=1)))).startswith(b"{")


async def test_who_is_answered_is_told_why_the_engine_ends(tiny: Path, tmp_path: Path) -> None:
    async with running(make_engine(tiny, tmp_path)) as engine:
        reply = await engine.answer(chat(stream=True, max_tokens=8000))
        chunks = reply.chunks()
        await anext(chunks)
        engine.end("the split ended: its worker has gone")
    with pytest.raises(EngineFailed, match="its worker has gone"):
        async for _ in chunks:
            pass
    await reply.close()


async def test_killed_before_the_first_token_is_answered_after_its_restart(slow: Path, tmp_path: Path) -> None:
    engine = make_engine(slow, tmp_path)
    async with mesh({"tiny": engine}) as (here,):
        await wait_for(engine, EngineState.READY)
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(here.router.answer(chat(text="a" * 1500, max_tokens=3, stream=True)))
            await log_says(tmp_path, "processing task")
            kill(engine)
        assert (await read(answering.result())).endswith(b"data: [DONE]\n\n")
        assert here.in_flight == 0


async def test_an_engine_that_lives_but_answers_nothing_is_ended_and_its_request_answered_by_the_next(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_server, "HOUSEKEEPING_S", 0.1)
    engine = make_engine(tiny, tmp_path, pulse_timeout_s=1.0)
    async with mesh({"tiny": engine}) as (here,):
        await wait_for(engine, EngineState.READY)
        streaming = await engine.answer(chat(max_tokens=8000, stream=True))
        stream = streaming.chunks()
        await anext(stream)
        hung = engine.pid
        kill(engine, signal.SIGSTOP)
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(here.router.answer(chat(max_tokens=3, stream=True)))
            with pytest.raises(EngineFailed, match="answered nothing for 3 times 1 s"):
                async for _ in stream:
                    pass
            await streaming.close()
        assert (await read(answering.result())).endswith(b"data: [DONE]\n\n")
        assert engine.pid not in (None, hung)
        assert here.in_flight == 0


async def test_an_engine_that_stands_still_for_a_while_goes_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_server, "HOUSEKEEPING_S", 0.1)
    async with running(make_engine(tiny, tmp_path, pulse_timeout_s=1.5)) as engine:
        same = engine.pid
        kill(engine, signal.SIGSTOP)
        await asyncio.sleep(2)  # overdue once
        kill(engine, signal.SIGCONT)
        assert (await ask_and_read(engine, chat(max_tokens=1))).startswith(b"{")
        await asyncio.sleep(0.5)
        assert (engine.pid, engine.status.state) == (same, EngineState.READY)


async def test_file_that_is_no_model_is_a_failure_that_quotes_the_log(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    async with running(make_engine(broken, tmp_path), until=EngineState.FAILED) as engine:
        assert "exited with status 1" in engine.status.reason
        assert "broken.gguf" in engine.status.reason
        assert str(tmp_path / "engine.log") in engine.status.reason


async def test_unknown_argument_is_a_failure_that_quotes_it(tiny: Path, tmp_path: Path) -> None:
    async with running(make_engine(tiny, tmp_path, "--no-such-flag"), until=EngineState.FAILED) as engine:
        assert "--no-such-flag" in engine.status.reason


async def test_missing_program_says_what_to_do(tiny: Path, tmp_path: Path) -> None:
    options = LlamaServerOptions(model=tiny, name="tiny", log=tmp_path / "log", binary=tmp_path / "nowhere")
    engine = LlamaServerEngine(options, ProcessLauncher(os.environ))
    async with running(engine, until=EngineState.FAILED):
        assert "nowhere is not an executable file" in engine.status.reason


async def test_nothing_runs_on_after_it_was_stopped(tiny: Path, tmp_path: Path) -> None:
    async with running(make_engine(tiny, tmp_path)) as engine:
        pid = engine.pid
        reply = await engine.answer(chat(max_tokens=8000, stream=True))
        await anext(reply.chunks())
    assert pid is not None
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        raise AssertionError(f"pid {pid} still runs")
    await reply.close()


async def test_more_requests_than_slots_wait_in_its_queue(engine: LlamaServerEngine) -> None:
    replies = await asyncio.gather(*(engine.answer(chat(max_tokens=20, stream=True)) for _ in range(64)))
    bodies = await asyncio.gather(*(read(reply) for reply in replies))
    assert all(body.endswith(b"data: [DONE]\n\n") for body in bodies)


def test_command_line_is_what_the_options_say() -> None:
    options = LlamaServerOptions(
        model=Path("/m.gguf"), name="m", log=Path("/l"), context_tokens=1000, slots=3, threads=2, kv_type="q8_0"
    )
    argv = arguments(LlamaBinary(Path("/bin/llama-server"), None), options)
    pairs = dict(pairwise(argv))
    assert (pairs["--ctx-size"], pairs["--parallel"], pairs["--threads"]) == ("3000", "3", "2")
    assert (pairs["--cache-type-k"], pairs["--host"], pairs["--port"]) == ("q8_0", "127.0.0.1", "0")
    assert "--api-key" not in argv


async def test_drafts_are_compared_with_none_while_nobody_waits(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "LEAST_ROUND_S", 0.0)
    options = LlamaServerOptions(
        tiny, "tiny", tmp_path / "tiny.log", context_tokens=1024, slots=1, threads=1, draft=Draft(tiny)
    )
    engine = LlamaServerEngine(options, ProcessLauncher(os.environ))
    said: set[str] = set()
    async with running(engine):
        first = engine.pid
        assert "drafts by tiny.gguf (draft-simple): being compared" in engine.status.reason
        async with asyncio.timeout(READY_TIMEOUT_S):
            while engine.trial.state == "tried":
                await wait_for(engine, EngineState.READY)
                try:
                    # Long enough to count, and greedy, so that all are the same.
                    answer = await ask_and_read(engine, chat(max_tokens=48, temperature=0))
                except EngineFailed as error:
                    assert error.retryable, error  # between the one and the other
                    continue
                said.add(json.loads(answer)["choices"][0]["message"]["content"])
        assert engine.trial.speedup > 0
        assert len(said) == 1
        assert engine.pid != first
        assert f"{engine.trial.speedup:.2f} times" in engine.trial.words()
        drafting = engine.status.drafting
        assert drafting is not None
        assert "; started again" in drafting.reason


async def test_the_build_knows_every_way_to_draft(tmp_path: Path) -> None:
    binary = find_llama_server()
    log = tmp_path / "help.txt"
    env = {"LD_LIBRARY_PATH": str(binary.library_dir)} if binary.library_dir is not None else {}
    async with ProcessLauncher(os.environ).start([str(binary.path), "--help"], env, log) as child:
        await child.wait()
    known = log.read_text()
    for kind in get_args(DraftKind):
        options = LlamaServerOptions(Path("m.gguf"), "m", tmp_path / "log", draft=Draft(Path("d.gguf"), kind=kind))
        assert kind in arguments(binary, options)
        assert kind in known
    for choice, kind in (("ngram", "ngram-simple"), ("own-heads", "draft-mtp")):
        options = LlamaServerOptions(Path("m.gguf"), "m", tmp_path / "log", draft=choice)  # type: ignore[arg-type]
        assert kind in arguments(binary, options)
        assert kind in known
    flags = set(arguments(binary, LlamaServerOptions(Path("m"), "m", tmp_path, draft=Draft(Path("d")))))
    assert all(flag in known for flag in flags if flag.startswith("--spec"))
