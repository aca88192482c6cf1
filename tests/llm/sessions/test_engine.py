"""The real child: what its agent asks of it over HTTP, and what becomes of sessions when it dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

import llm.demo
from llm.engines.drafts import Draft
from llm.engines.echo import EchoEngine
from llm.engines.interface import Engine, EngineState, EngineStatus, Reply, Request
from llm.engines.llama_arguments import LlamaServerOptions
from llm.sessions.engine import SessionEngine, SessionOptions, WithSessions, owner_of
from llm.sessions.names import NoSessions, is_of_sessions
from meshd.launcher import ProcessLauncher
from tests.llm.requests import read

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

TOY = Path(llm.demo.__file__).with_name("meshd-toy.gguf")
NODE = "0123456789abcdef"
READY_S = 120.0


def engine_in(folder: Path, *, sequences: int = 8, cells: int = 2048) -> SessionEngine:
    draft = Draft(llm.demo.DRAFT_MODEL)
    server = LlamaServerOptions(TOY, "toy", folder / "toy.log", context_tokens=cells, slots=1, threads=1, draft=draft)
    options = SessionOptions(server, "toy's digest", folder / "sessions", lambda: NODE, sequences)
    return SessionEngine(options, ProcessLauncher(os.environ))


@asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        run = group.create_task(engine.run())
        try:
            await ready(engine)
            yield
        finally:
            run.cancel()


async def ready(engine: Engine) -> None:
    async with asyncio.timeout(READY_S):
        while engine.status.state is not EngineState.READY:
            await engine.changed()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SessionEngine]:
    engine = engine_in(tmp_path_factory.mktemp("engine"))
    async with running(engine):
        yield engine


def request(method: str, path: str, body: dict[str, Any] | None = None, caller: str = "key") -> Request:
    raw = json.dumps(body).encode() if body is not None else b""
    headers = (("content-type", "application/json"),)
    return Request("req-1", "toy", method, f"/v1/sessions{path}", headers, raw, 60.0, caller)


async def call(engine: Engine, method: str, path: str, body: dict[str, Any] | None = None, caller: str = "key") -> Any:
    """The JSON of the answer, with its status as "status"."""
    reply = await engine.answer(request(method, path, body, caller))
    return json.loads(await read(reply)) | {"status": reply.status}


async def opened(engine: Engine, **body: Any) -> str:
    about = await call(engine, "POST", "", body)
    assert about["status"] == 201, about
    return str(about["id"])


def chat(*words: str) -> dict[str, Any]:
    roles = ["user" if index % 2 == 0 else "assistant" for index in range(len(words))]
    messages = [{"role": role, "content": text} for role, text in zip(roles, words, strict=True)]
    return {"messages": messages, "temperature": 0, "max_tokens": 40}


@pytest.mark.asyncio(loop_scope="module")
class TestChild:
    async def test_opens_appends_generates_tells_and_deletes(self, engine: SessionEngine) -> None:
        session = await opened(engine, text="The mesh")
        assert session.startswith(f"sess-{NODE}-")
        about = await call(engine, "POST", f"/{session}/append", {"text": " is a pool of", "reads": True})
        assert about["cells"] == about["tokens"] > 4
        assert about["live_bytes"] > 0
        reply = await engine.answer(request("POST", f"/{session}/generate", {"max_tokens": 12}))
        assert dict(reply.headers)["content-type"].startswith("text/event-stream")
        lines = (await read(reply)).decode().strip().split("\n\n")
        assert lines[-1] == "data: [DONE]"
        parts = [json.loads(line[6:]) for line in lines[:-1]]
        assert parts[-1]["usage"]["completion_tokens"] <= 12
        assert "".join(part["choices"][0]["text"] for part in parts[:-1])
        assert parts[-2]["choices"][0]["finish_reason"] in ("length", "stop")
        assert (await call(engine, "GET", f"/{session}"))["tier"] == "resident"
        assert (await call(engine, "DELETE", f"/{session}"))["deleted"]
        gone = await call(engine, "GET", f"/{session}")
        assert (gone["status"], gone["error"]["code"]) == (410, "session_gone")

    async def test_a_chat_with_a_session_reads_only_what_is_new(self, engine: SessionEngine) -> None:
        session, other = await opened(engine), await opened(engine)
        first = await call(engine, "POST", f"/{session}/chat/completions", chat("What is meshd?"))
        said = first["choices"][0]["message"]["content"]
        assert first["session_id"] == session
        body = chat("What is meshd?", said, "How do I join?")
        second = await call(engine, "POST", f"/{session}/chat/completions", body)
        anew = await call(engine, "POST", f"/{other}/chat/completions", body)
        assert second["choices"] == anew["choices"]
        assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > first["usage"]["prompt_tokens"]
        assert second["timings"]["prompt_n"] < anew["timings"]["prompt_n"]

    async def test_drafts_change_no_answer_and_are_counted(self, engine: SessionEngine) -> None:
        plain, drafted = await opened(engine), await opened(engine)
        body = chat("one two three one two three one two three") | {"max_tokens": 60}
        first = await call(engine, "POST", f"/{plain}/chat/completions", body | {"draft": "none"})
        second = await call(engine, "POST", f"/{drafted}/chat/completions", body)
        assert first["choices"] == second["choices"]
        assert "draft_n" not in first["timings"]
        assert 0 <= second["timings"].get("draft_n_accepted", 0) <= second["timings"].get("draft_n", 0)

    async def test_a_session_with_a_draft_model_says_the_same(self, engine: SessionEngine) -> None:
        name = llm.demo.DRAFT_MODEL.stem
        plain, drafted = await opened(engine), await opened(engine, policy={"draft_model": name})
        about = await call(engine, "GET", f"/{drafted}")
        assert (about["draft"]["by"], about["policy"]) == (name, {"kind": "full", "draft_model": name})
        for question in ("What is meshd?", "How does gossip work?"):
            body = chat(question)
            first = await call(engine, "POST", f"/{plain}/chat/completions", body | {"draft": "none"})
            second = await call(engine, "POST", f"/{drafted}/chat/completions", body)
            assert first["choices"] == second["choices"]
            # Whether it pays is measured; where it drafted, it says who did.
            assert second["timings"].get("draft_by", name) == name
        refused = await call(engine, "POST", "", {"policy": {"draft_model": "another"}})
        assert (refused["status"], name in refused["error"]["message"]) == (400, True)

    async def test_another_key_finds_nothing(self, engine: SessionEngine) -> None:
        session = await opened(engine)
        assert (await call(engine, "GET", f"/{session}", caller="other"))["status"] == 410
        assert (await call(engine, "GET", f"/{session}", caller="some-member/key"))["status"] == 200
        listed = await call(engine, "GET", "", caller="other")
        assert listed["data"] == []

    async def test_what_cannot_be_read_is_refused_in_words(self, engine: SessionEngine) -> None:
        session = await opened(engine)
        cases: list[tuple[str, dict[str, Any]]] = [
            ("", {"policy": {"kind": "infinite"}}),
            ("", {"policy": {"kind": "bounded", "window": 1 << 19}}),
            (f"/{session}/append", {"text": 5}),
            (f"/{session}/generate", {"max_tokens": -1}),
            (f"/{session}/generate", {}),
            (f"/{session}/chat/completions", {"messages": []}),
            (f"/{session}/chat/completions", chat("x") | {"tools": [{}]}),
        ]
        for path, body in cases:
            answer = await call(engine, "POST", path, body)
            assert (answer["status"], bool(answer["error"]["message"])) == (400, True), path
        assert (await call(engine, "GET", "/nonsense"))["status"] == 404

    async def test_leaving_half_way_frees_the_session(self, engine: SessionEngine) -> None:
        session = await opened(engine, text="once")
        reply = await engine.answer(request("POST", f"/{session}/generate", {"max_tokens": 4000}))
        await anext(reply.chunks())
        await reply.close()
        async with asyncio.timeout(READY_S):
            while (await call(engine, "GET", f"/{session}"))["is_busy"]:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.02)

    async def test_more_than_may_be_answered_at_a_time_are_told_to_come_back(self, engine: SessionEngine) -> None:
        names = [await opened(engine, text="once") for _ in range(24)]
        refused: list[Reply] = []
        async with asyncio.timeout(READY_S):
            while not refused:  # a quick model may be done with the first before the last has asked
                async with asyncio.TaskGroup() as group:
                    asking = [
                        group.create_task(engine.answer(request("POST", f"/{name}/generate", {"max_tokens": 200})))
                        for name in names
                    ]
                replies = [one.result() for one in asking]
                for reply in replies:
                    await reply.close()
                assert {reply.status for reply in replies} <= {200, 409, 429}
                assert sum(reply.status == 200 for reply in replies) >= 8
                refused = [reply for reply in replies if reply.status == 429]
        assert all(dict(reply.headers)["retry-after"] for reply in refused)


async def test_sessions_outlive_their_process(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    async with running(engine):
        session = await opened(engine)
        body = chat("What is meshd?")
        first = await call(engine, "POST", f"/{session}/chat/completions", body)
    assert not [child for child in psutil.Process().children(recursive=True) if "llm.sessions" in child.cmdline()]
    assert list((tmp_path / "sessions").glob("*.state"))
    async with running(engine):
        about = await call(engine, "GET", f"/{session}")
        assert (about["tier"], about["parked_bytes"] > 0) == ("parked", True)
        assert engine.pid is not None
        again = await call(engine, "POST", f"/{session}/chat/completions", body)
        assert again["choices"] == first["choices"]
        assert again["timings"]["cache_n"] > 0
        # Killed, it loses the state and no session.
        os.kill(engine.pid, signal.SIGKILL)
        async with asyncio.timeout(READY_S):
            while engine.status.state is EngineState.READY:
                await engine.changed()
        await ready(engine)
        anew = await call(engine, "POST", f"/{session}/chat/completions", body)
        assert anew["choices"] == first["choices"]
        assert anew["timings"]["cache_n"] == 0


async def test_plain_requests_go_to_the_other_engine() -> None:
    echo, sessions = EchoEngine("toy"), EchoEngine("toy")
    both = WithSessions(echo, sessions)
    async with running(both):
        await ready(sessions)
        plain = await both.answer(replace(request("POST", "", {}), path="/v1/chat/completions"))
        kept = await both.answer(request("POST", "", {}))
        assert (echo.in_flight, sessions.in_flight) == (1, 1)
        await plain.close()
        await kept.close()


class SplitEcho(EchoEngine):
    """As a model looks that several nodes share."""

    @property
    def status(self) -> EngineStatus:
        return replace(super().status, mode="split")


@pytest.mark.parametrize(
    ("plain", "fits", "words"),
    [
        (SplitEcho("toy"), True, "is split over several nodes.*chat without `session_id`.*meshd plan toy"),
        (EchoEngine("toy"), False, "does not fit on this node alone"),
    ],
)
async def test_a_model_that_is_not_whole_here_has_no_sessions(plain: Engine, fits: bool, words: str) -> None:
    both = WithSessions(plain, EchoEngine("toy"), fits=fits)
    with pytest.raises(NoSessions, match=words) as refused:
        await both.answer(request("POST", "", {}))
    assert (refused.value.status, refused.value.code) == (409, "no_sessions")


def test_what_goes_to_sessions() -> None:
    paths = ("/v1/sessions", "/v1/sessions?model=x", "/v1/sessions/a/append", "/v1/sessionsx", "/v1/chat/completions")
    assert [is_of_sessions(path) for path in paths] == [True, True, True, False, False]


def test_a_key_owns_its_sessions_through_any_member() -> None:
    assert owner_of("abcd/1234") == owner_of("1234") == "1234"
    assert owner_of("abcd/") == owner_of("") == ""
