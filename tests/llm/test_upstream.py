"""A server that the host runs already is watched, believed about its models, and given requests it understands."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from llm.engines import upstream as upstream_engine
from llm.engines import upstream as upstream_module
from llm.engines.booking import SharedMemory
from llm.engines.commands import run_command
from llm.engines.interface import Engine, EngineFailed, EngineState, Request
from llm.engines.llama_arguments import LlamaServerOptions, arguments
from llm.engines.llama_binary import find_llama_server
from llm.engines.llama_server import LISTENING
from llm.engines.resident import Busy, Residence, Resident, ResidentEngine
from llm.engines.upstream import PathNotPassed, Upstream, UpstreamEngine, UpstreamOptions
from llm.host import Host
from llm.residency import Policy
from llm.upstream_models import serve_upstream
from meshd.launcher import ProcessLauncher
from meshd.ledger import Account, Ledger
from tests.llm.engine_contract import EngineContract
from tests.llm.fake_upstream import SOUND, FakeUpstream
from tests.llm.managed_server import ManagedServer, managed
from tests.llm.requests import chat, get, post, read
from tests.llm.scripted import ScriptedEngine
from tests.llm.tiny_gguf import write_tiny_gguf
from tests.ports import free_port

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

DEADLINE_S = 60.0


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_engine, "LOOK_INTERVAL_S", 0.5)
    monkeypatch.setattr(upstream_engine, "LOOK_AGAIN_S", 0.1)


@asynccontextmanager
async def watched(options: UpstreamOptions) -> AsyncIterator[Upstream]:
    upstream = Upstream(options)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(upstream.run())
        yield upstream
        watching.cancel()


async def until(upstream: Upstream, state: EngineState) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while upstream.state is not state:
            await upstream.changed()


async def until_offers(host: Host, holds: Callable[[dict[str, str]], bool]) -> dict[str, str]:
    """State by name, once they are as asked."""
    async with asyncio.timeout(DEADLINE_S):
        while not holds(offers := {offer.name: str(offer.state) for offer in host.offers()}):
            await host.changed()
    return offers


@asynccontextmanager
async def hosted(*many: UpstreamOptions) -> AsyncIterator[Host]:
    host = Host()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(host.run(lambda fact, *, is_urgent: None))]
        await asyncio.sleep(0)
        tasks += [group.create_task(serve_upstream(Upstream(one), host)) for one in many]
        yield host
        for task in reversed(tasks):
            task.cancel()


class TestPlainLlamaServer(EngineContract):
    """A llama-server that somebody else started keeps the contract through us."""

    @pytest.fixture
    async def engine(self, tmp_path: Path) -> AsyncIterator[Engine]:
        binary, key = find_llama_server(), secrets.token_urlsafe(8)
        log = tmp_path / "llama.log"
        options = LlamaServerOptions(
            model=write_tiny_gguf(tmp_path / "tiny.gguf"),
            name="served-name",
            log=log,
            context_tokens=4096,
            slots=2,
            threads=1,
        )
        env = {"LLAMA_API_KEY": key, "LD_LIBRARY_PATH": str(binary.library_dir or "")}
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(ProcessLauncher(os.environ).start(arguments(binary, options), env, log))
            async with asyncio.timeout(60):
                while (found := LISTENING.search(log.read_text())) is None:  # noqa: ASYNC110 - another process's file
                    await asyncio.sleep(0.05)
            base = f"http://127.0.0.1:{found[1]}"
            upstream = await stack.enter_async_context(watched(UpstreamOptions("plain", base, api_key=key, slots=2)))
            await until(upstream, EngineState.READY)
            yield UpstreamEngine(upstream, "served-name")


async def test_offers_what_the_server_lists_and_nothing_it_no_longer_lists() -> None:
    fake = FakeUpstream("a", "b")
    async with fake.serving(), hosted(UpstreamOptions("fake", fake.base, prefix="fake/")) as host:
        await until_offers(host, lambda offers: offers == {"fake/a": "ready", "fake/b": "ready"})
        fake.entries = [{"id": "b"}, {"id": "c"}]
        await until_offers(host, lambda offers: offers == {"fake/b": "ready", "fake/c": "ready"})


async def test_one_name_of_two_servers_is_offered_once() -> None:
    one, other = FakeUpstream("a"), FakeUpstream("a")
    both = UpstreamOptions("one", one.base), UpstreamOptions("other", other.base)
    async with one.serving(), other.serving(), hosted(*both) as host:
        await until_offers(host, lambda offers: offers == {"a": "ready"})


async def test_survives_the_servers_restart() -> None:
    fake = FakeUpstream("a")
    async with hosted(UpstreamOptions("fake", fake.base)) as host:
        async with fake.serving():
            await until_offers(host, lambda offers: offers == {"a": "ready"})
            assert (await host.answer(chat("a"))).status == 200
        await until_offers(host, lambda offers: offers == {"a": "failed"})
        with pytest.raises(EngineFailed, match="upstream fake failed"):
            await host.answer(chat("a"))
        async with fake.serving():
            await until_offers(host, lambda offers: offers == {"a": "ready"})
            assert (await host.answer(chat("a"))).status == 200


async def test_a_failed_request_is_a_reason_to_look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_engine, "LOOK_INTERVAL_S", 10 * DEADLINE_S)
    fake = FakeUpstream("a")
    async with watched(UpstreamOptions("fake", fake.base)) as upstream:
        async with fake.serving():
            await until(upstream, EngineState.READY)
        with pytest.raises(EngineFailed):
            await UpstreamEngine(upstream, "a").answer(chat("a"))
        await until(upstream, EngineState.FAILED)


async def test_context_is_what_the_server_says() -> None:
    fake = FakeUpstream()
    fake.entries = [{"id": "vllm", "max_model_len": 32768}, {"id": "llama", "meta": {"n_ctx": 4096}}, {"id": "mute"}]
    async with fake.serving(), watched(UpstreamOptions("fake", fake.base)) as upstream:
        await until(upstream, EngineState.READY)
        assert dict(upstream.models) == {"vllm": 32768, "llama": 4096, "mute": 0}
        assert UpstreamEngine(upstream, "vllm").status.context_tokens == 32768


@pytest.mark.parametrize(
    "entries",
    [{"a": 1}, [{"name": "no id"}], [{"id": 5}], [{"id": "x" * 2_000_000}], "nothing", [{"id": "a", "meta": 5}]],
    ids=["no list", "no id", "number", "huge", "text", "bad meta"],
)
async def test_a_list_that_is_none_makes_the_server_fail_in_words(entries: object) -> None:
    fake = FakeUpstream()
    fake.entries = entries
    async with fake.serving(), watched(UpstreamOptions("fake", fake.base)) as upstream:
        await until(upstream, EngineState.FAILED)
        assert "/v1/models" in upstream.reason
        assert not upstream.models


async def test_names_that_the_mesh_cannot_use_and_too_many_models_are_left_out() -> None:
    fake = FakeUpstream("good", "with@sign", "control\n", "", *(f"more-{number}" for number in range(100)))
    async with fake.serving(), watched(UpstreamOptions("fake", fake.base)) as upstream:
        await until(upstream, EngineState.READY)
        assert len(upstream.models) <= 64
        assert set(upstream.models) <= {"good", *(f"more-{number}" for number in range(100))}


async def test_the_key_is_sent_and_its_refusal_is_told() -> None:
    fake = FakeUpstream("a", key="right")
    async with fake.serving():
        async with watched(UpstreamOptions("fake", fake.base, api_key="wrong")) as upstream:
            await until(upstream, EngineState.FAILED)
            assert "401" in upstream.reason
        options = UpstreamOptions("fake", fake.base, api_key="right")
        assert "right" not in repr(options)
        async with watched(options) as upstream:
            await until(upstream, EngineState.READY)


async def test_only_the_chosen_models_are_offered() -> None:
    fake = FakeUpstream("a", "b", "c")
    async with fake.serving(), watched(UpstreamOptions("fake", fake.base, models=("b", "z"))) as upstream:
        await until(upstream, EngineState.READY)
        assert list(upstream.models) == ["b"]


async def test_the_server_reads_its_own_name_for_the_model() -> None:
    fake = FakeUpstream("a")
    async with fake.serving(), hosted(UpstreamOptions("fake", fake.base, prefix="fake/")) as host:
        await until_offers(host, lambda offers: offers == {"fake/a": "ready"})
        await read(await host.answer(chat("fake/a", temperature=0.25)))
        assert fake.last_body()["model"] == "a"
        assert fake.last_body()["temperature"] == 0.25


async def test_sound_passes_both_ways() -> None:
    fake = FakeUpstream("voice")
    form = (
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="x.wav"\r\n\r\n' + SOUND + b"\r\n"
        b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nfake/voice\r\n--B--\r\n'
    )
    headers = (("content-type", "multipart/form-data; boundary=B"),)
    async with fake.serving(), hosted(UpstreamOptions("fake", fake.base, prefix="fake/")) as host:
        await until_offers(host, lambda offers: offers == {"fake/voice": "ready"})
        reply = await host.answer(post("fake/voice", "/v1/audio/speech", json.dumps({"input": "hello"}).encode()))
        assert await read(reply) == SOUND
        await read(
            await host.answer(Request("r", "fake/voice", "POST", "/v1/audio/transcriptions", headers, form, 9.0))
        )
        assert fake.asked[-1] == ("/v1/audio/transcriptions", form.replace(b"fake/voice", b"voice"))


@pytest.mark.parametrize(
    "path", ["/api/delete", "/v1/../api/delete", "/v1/%2e%2e/api/delete", "/v1//x", "/slots/0?action=save", "/"]
)
async def test_what_users_do_not_need_is_not_passed_on(path: str) -> None:
    fake = FakeUpstream("a")
    async with fake.serving(), watched(UpstreamOptions("fake", fake.base)) as upstream:
        await until(upstream, EngineState.READY)
        engine = UpstreamEngine(upstream, "a")
        with pytest.raises(PathNotPassed):
            await engine.answer(get("a", path))
        assert fake.asked == []
        assert engine.status.in_flight == 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ManagedServer]:
    """The echo engine on a port of its own, in a process that commands begin and end."""
    argv = (sys.executable, "-m", "llm.engines.echo", "--port", str(free_port()), "--tokens-per-s", "200")
    with managed(tmp_path, argv) as server:
        yield server


def options_of(server: ManagedServer, memory_bytes: int = 0) -> UpstreamOptions:
    base = f"http://127.0.0.1:{server.argv[server.argv.index('--port') + 1]}"
    return UpstreamOptions(
        "old", base, models=("echo",), start=server.start, stop=server.stop, memory_bytes=memory_bytes
    )


async def test_a_server_that_is_ended_to_free_its_memory_starts_at_the_next_request(server: ManagedServer) -> None:
    async with watched(options_of(server)) as upstream:
        await until(upstream, EngineState.UNLOADED)
        await upstream.start()
        await upstream.unload("somebody asked for it")
        await server.ended()
        assert upstream.state is EngineState.UNLOADED
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(_status(UpstreamEngine(upstream, "echo"))) for _ in range(3)]
        assert [one.result() for one in asking] == [200, 200, 200]
        assert server.is_running


async def _status(engine: UpstreamEngine) -> int:
    reply = await engine.answer(chat("echo", max_tokens=1))
    await read(reply)
    return reply.status


class Shared:
    """A host's memory as an upstream and a model share it. in_use: what drivers would see, beside the model."""

    def __init__(self, total: int) -> None:
        self.ledger = Ledger([Account("GPU", "cuda", total)])
        self.residence = Residence(self.ledger)
        self.in_use: Callable[[], int] = lambda: 0
        self.memory = SharedMemory(self.residence, self.ledger.take_over, self._look_again)

    async def _look_again(self) -> None:
        self.ledger.reconcile([self.in_use()])

    def model(self, need_bytes: int) -> ResidentEngine:
        return self.residence.add(Resident("model", lambda: ScriptedEngine([b"x"]), need_bytes, 1))


@asynccontextmanager
async def sharing(server: ManagedServer) -> AsyncIterator[tuple[Shared, Upstream, ResidentEngine]]:
    """10 bytes of memory, of which the server takes 8 while it runs and a lazy model needs 6."""
    shared = Shared(10)
    shared.in_use = lambda: 8 if server.is_running else 0
    upstream, model = Upstream(options_of(server, 8), shared.memory), shared.model(6)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(upstream.run()), group.create_task(model.run())]
        await until(upstream, EngineState.UNLOADED)
        yield shared, upstream, model
        for task in tasks:
            task.cancel()


async def test_an_idle_server_makes_room_and_takes_it_back(server: ManagedServer) -> None:
    async with sharing(server) as (shared, upstream, model):
        assert await _status(UpstreamEngine(upstream, "echo")) == 200
        assert (upstream.held_bytes, shared.ledger.free_bytes) == (8, 2)
        assert await read(await model.answer(chat("model"))) == b"x"
        await server.ended()
        assert (upstream.held_bytes, model.held_bytes, shared.ledger.free_bytes) == (0, 6, 4)
        assert await _status(UpstreamEngine(upstream, "echo")) == 200
        assert (upstream.held_bytes, model.held_bytes, shared.ledger.free_bytes) == (8, 0, 2)


async def test_a_server_that_answers_is_not_ended(server: ManagedServer) -> None:
    async with sharing(server) as (_, upstream, model):
        reply = await UpstreamEngine(upstream, "echo").answer(chat("echo", max_tokens=400, stream=True))
        model.load()
        await anext(reply.chunks())
        with pytest.raises(Busy):
            await upstream.unload("somebody asked for it")
        await until_model(model, EngineState.WAITING)
        assert server.is_running
        await reply.close()
        await until_model(model, EngineState.READY)
        await server.ended()


async def until_model(model: ResidentEngine, state: EngineState) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while model.status.state is not state:
            await model.changed()


async def test_a_server_that_somebody_began_is_counted(server: ManagedServer) -> None:
    async with sharing(server) as (shared, upstream, _):
        await run_command(server.start, DEADLINE_S)
        await until(upstream, EngineState.READY)
        assert (upstream.held_bytes, shared.ledger.free_bytes) == (8, 2)
        await shared.memory.look_again()
        assert shared.ledger.free_bytes == 2


async def test_a_server_that_does_not_stop_is_left_alone(server: ManagedServer) -> None:
    shared = Shared(10)
    options = replace(options_of(server, 8), stop=(sys.executable, "-c", "raise SystemExit(4)"))
    async with asyncio.TaskGroup() as group:
        upstream = Upstream(options, shared.memory)
        watching = group.create_task(upstream.run())
        await until(upstream, EngineState.UNLOADED)
        await upstream.start()
        assert upstream.policy is Policy.LAZY
        assert not await shared.residence.make_room(lambda: shared.ledger.free_bytes >= 6)
        assert (upstream.state, upstream.policy) == (EngineState.READY, Policy.PINNED)
        watching.cancel()


async def test_a_server_that_hangs_lets_go_of_who_waits_for_it(
    server: ManagedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(options_of(server), start=(), stop=())
    async with watched(options) as upstream:
        await run_command(server.start, DEADLINE_S)
        await until(upstream, EngineState.READY)
        engine = UpstreamEngine(upstream, "echo")
        streaming = await engine.answer(chat("echo", max_tokens=4000, stream=True))
        chunks = streaming.chunks()
        await anext(chunks)
        server.suspend()
        with monkeypatch.context() as impatient:
            impatient.setattr(upstream_module, "LOOK_TIMEOUT_S", 0.3)
            impatient.setattr(upstream_module, "LOOK_AGAIN_S", 0.05)
            async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
                asking = group.create_task(_failure_of(engine))
                with pytest.raises(EngineFailed):
                    async for _ in chunks:
                        pass
        await streaming.close()
        assert asking.result().retryable
        assert engine.status.in_flight == 0
        server.resume()
        await until(upstream, EngineState.READY)
        assert await _status(engine) == 200


async def _failure_of(engine: UpstreamEngine) -> EngineFailed:
    with pytest.raises(EngineFailed) as caught:
        await engine.answer(chat("echo", max_tokens=1))
    return caught.value


async def test_a_start_that_fails_is_told_and_tried_again_at_the_next_request() -> None:
    fake = FakeUpstream("a")
    failing = (sys.executable, "-c", "print('no such unit'); raise SystemExit(3)")
    async with watched(UpstreamOptions("fake", fake.base, models=("a",), start=failing)) as upstream:
        await until(upstream, EngineState.UNLOADED)
        for _ in range(2):
            with pytest.raises(EngineFailed, match="status 3: no such unit"):
                await UpstreamEngine(upstream, "a").answer(chat("a"))


async def test_a_server_without_commands_is_not_ours_to_end() -> None:
    fake = FakeUpstream("a")
    async with fake.serving(), watched(UpstreamOptions("fake", fake.base)) as upstream:
        await until(upstream, EngineState.READY)
        with pytest.raises(EngineFailed, match="not ours to end"):
            await upstream.unload("somebody asked for it")
        assert upstream.state is EngineState.READY
