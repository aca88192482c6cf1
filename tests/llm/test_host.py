"""A host answers only for what it serves, holds askers to the protocol, and publishes what it offers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from llm.chat import (
    CHAT_PROTOCOL,
    MAX_BODY_BYTES,
    WORKING_INTERVAL_S,
    Accepted,
    Ask,
    Failure,
    Head,
    HostMessage,
    Working,
    message,
    read_answer,
)
from llm.engines.echo import EchoEngine, EchoOptions
from llm.engines.interface import EngineState
from llm.errors import QueueFull, UnknownModel
from llm.host import MAX_HELD_BYTES, Host, ServedModel
from llm.offer import Offer, decode_offers
from llm.serving import PAUSE_TIMEOUT_S
from tests.llm.mesh import Node, mesh
from tests.llm.requests import CHAT, chat, read
from tests.llm.scripted import ScriptedEngine
from tests.llm.views import FILE_A, node_id
from transport.errors import ResetCode, StreamReset
from transport.interface import Record, RecordKind, Role, Stream, StreamHeader
from transport.virtual_time import VirtualTimeLoop

loop_factory = VirtualTimeLoop

BODY = b'{"model": "tiny", "messages": [{"role": "user", "content": "a b"}]}'


def ask(model: str = "tiny", body_bytes: int = len(BODY), identity: str = "") -> Record:
    return message(Ask(model, identity, "POST", CHAT, (), body_bytes))


def data(payload: bytes) -> Record:
    return Record(RecordKind.DATA, payload)


async def open_chat(client: Node, host: Node, deadline_ms: int = 60_000) -> Stream:
    return await client.transport.open(host.id, StreamHeader(CHAT_PROTOCOL, "req-1", deadline_ms))


async def messages(stream: Stream) -> list[HostMessage]:
    """What the host says until its end, the body's records left out."""
    said = []
    while (record := await stream.receive()) is not None:
        if record.kind is RecordKind.MESSAGE:
            said.append(read_answer(record.payload, stream.peer.node))
    return said


async def failure_for(client: Node, host: Node, *records: Record) -> Failure:
    stream = await open_chat(client, host)
    for record in records:
        await stream.send(record)
    failure = (await messages(stream))[-1]
    assert isinstance(failure, Failure)
    return failure


async def test_accepts_at_once_then_answers() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny")}) as (client, host):
        stream = await open_chat(client, host)
        await stream.send(ask())
        await stream.send(data(BODY[:10]))
        await stream.send(data(BODY[10:]))
        accepted, head = await messages(stream)
        assert isinstance(accepted, Accepted)
        assert isinstance(head, Head)
        assert head.status == 200


async def test_an_engine_that_keeps_no_sessions_is_not_asked_for_one() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny")}) as (client, host):
        question = message(Ask("tiny", "", "POST", "/v1/sessions", (), 0))
        failure = await failure_for(client, host, question)
        assert (failure.status, failure.code) == (409, "no_sessions")
        assert "meshd --model FILE" in failure.message


async def test_says_that_it_works_while_the_engine_is_silent() -> None:
    engine = ScriptedEngine([4 * WORKING_INTERVAL_S, b"x", 4 * WORKING_INTERVAL_S])
    async with mesh({}, {"tiny": engine}) as (client, host):
        stream = await open_chat(client, host)
        await stream.send(ask(body_bytes=0))
        said = await messages(stream)
        assert 6 <= sum(isinstance(one, Working) for one in said) <= 8


async def test_a_busy_stream_has_no_time_for_small_talk() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny", EchoOptions(tokens_per_s=2.0))}) as (client, host):
        stream = await open_chat(client, host)
        body = BODY[:-1] + b', "max_tokens": 20, "stream": true}'
        await stream.send(ask(body_bytes=len(body)))
        await stream.send(data(body))
        assert not any(isinstance(one, Working) for one in await messages(stream))


@pytest.mark.parametrize(
    ("question", "status", "code"),
    [
        (ask("huge"), 404, "model_not_found"),
        (ask(identity="f" * 64), 404, "model_not_found"),
        (ask(body_bytes=MAX_BODY_BYTES + 1), 413, "body_too_large"),
    ],
)
async def test_refuses_before_the_body_comes(question: Record, status: int, code: str) -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny")}) as (client, host):
        failure = await failure_for(client, host, question)
        assert (failure.status, failure.code) == (status, code)
        assert host.in_flight == 0


async def test_refuses_for_a_full_queue_before_the_body_comes() -> None:
    async with mesh({}, {"tiny": ScriptedEngine([b"x", 100.0], slots=1)}, queue_limit=0) as (client, host):
        holding = await host.host.answer(chat())
        failure = await failure_for(client, host, ask())
        assert (failure.status, failure.retryable) == (429, True)
        await holding.close()


async def test_bodies_of_peers_are_bounded_together() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny")}) as (client, host):
        largest = MAX_BODY_BYTES
        streams = [await open_chat(client, host) for _ in range(MAX_HELD_BYTES // largest)]
        for stream in streams:
            await stream.send(ask(body_bytes=largest))
            await stream.receive()
        failure = await failure_for(client, host, ask(body_bytes=1))
        assert failure.code == "queue_full"
        for stream in streams:
            stream.reset(ResetCode.CANCELLED)
        await asyncio.sleep(1)
        stream = await open_chat(client, host)
        await stream.send(ask())
        await stream.send(data(BODY))
        assert isinstance((await messages(stream))[-1], Head)


async def test_serves_the_file_that_the_asker_means() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny")}) as (client, host):
        host.host.identify("tiny", "d" * 64)
        for identity in ("", FILE_A, "d" * 64):
            stream = await open_chat(client, host)
            await stream.send(ask(identity=identity))
            await stream.send(data(BODY))
            assert isinstance((await messages(stream))[-1], Head)


@pytest.mark.parametrize(
    "records",
    [
        [data(b"body first")],
        [Record(RecordKind.MESSAGE, b"\xc1")],
        [ask(), ask()],
        [ask(body_bytes=3), data(b"four")],
        [ask(body_bytes=3), data(b"")],
        [ask(body_bytes=0), data(b"more")],
        [ask(body_bytes=0), ask()],
    ],
    ids=["data first", "garbage", "two asks", "too long", "empty record", "body too many", "ask afterwards"],
)
async def test_asker_that_breaks_the_protocol_is_cut_off_and_counted(records: list[Record]) -> None:
    async with mesh({}, {"tiny": ScriptedEngine([50.0])}) as (client, host):
        stream = await open_chat(client, host)
        for record in records:
            await stream.send(record)
        with pytest.raises(StreamReset):
            await messages(stream)
        assert len(host.offences) == 1
        assert "node" in str(host.offences[0])
        assert host.in_flight == 0


async def test_asker_that_finishes_before_its_body_is_whole_breaks_the_protocol() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny")}) as (client, host):
        stream = await open_chat(client, host)
        await stream.send(ask(body_bytes=3))
        await stream.finish()
        with pytest.raises(StreamReset):
            await messages(stream)
        assert len(host.offences) == 1


async def test_asker_that_only_finishes_its_side_still_gets_its_answer() -> None:
    async with mesh({}, {"tiny": ScriptedEngine([5.0, b"x"])}) as (client, host):
        stream = await open_chat(client, host)
        await stream.send(ask(body_bytes=0))
        await stream.finish()
        assert isinstance((await messages(stream))[1], Head)
        assert host.in_flight == 0


@pytest.mark.parametrize("records", [[], [ask()]], ids=["no ask", "no body"])
async def test_asker_that_goes_quiet_is_given_up(records: list[Record]) -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny")}) as (client, host):
        stream = await open_chat(client, host, deadline_ms=3_600_000)
        for record in records:
            await stream.send(record)
        start = asyncio.get_running_loop().time()
        try:
            said = await messages(stream)
            assert isinstance(said[-1], Failure)
        except StreamReset:
            pass
        assert asyncio.get_running_loop().time() - start <= PAUSE_TIMEOUT_S + 1


async def test_deadline_of_the_header_ends_the_work() -> None:
    async with mesh({}, {"tiny": ScriptedEngine([b"x", 500.0])}) as (client, host):
        stream = await open_chat(client, host, deadline_ms=3000)
        await stream.send(ask(body_bytes=0))
        failure = (await messages(stream))[-1]
        assert isinstance(failure, Failure)
        assert (failure.status, failure.retryable) == (504, False)
        assert host.in_flight == 0


async def test_reset_while_the_engine_thinks_frees_the_slot_within_a_second() -> None:
    async with mesh({}, {"tiny": ScriptedEngine([b"x"], before_head=[500.0])}) as (client, host):
        stream = await open_chat(client, host)
        await stream.send(ask(body_bytes=0))
        while not host.in_flight:
            await host.host.changed()
        stream.reset(ResetCode.CANCELLED)
        async with asyncio.timeout(1):
            while host.in_flight:
                await host.host.changed()


async def test_local_requests_are_counted_refused_and_freed() -> None:
    host = Host([ServedModel("tiny", engine := ScriptedEngine([b"x"], slots=2), FILE_A, queue_limit=0)])
    replies = [await host.answer(chat()) for _ in range(2)]
    with pytest.raises(QueueFull, match="2 requests"):
        await host.answer(chat())
    for reply in replies:
        await reply.close()
        await reply.close()
    assert await read(await host.answer(chat())) == b"x"
    assert engine.in_flight == 0
    with pytest.raises(UnknownModel, match="there are: tiny"):
        await host.answer(chat("huge"))


async def test_callers_of_one_host_take_turns_whatever_node_they_ask() -> None:
    """Eight requests of one caller do not keep the one of another waiting behind all of them."""
    engine = ScriptedEngine([1.0, b"x"], slots=1)
    async with mesh({}, {"tiny": engine}) as (client, _), asyncio.TaskGroup() as group:
        for caller in ["greedy"] * 8 + ["modest"]:
            group.create_task(_ask_and_read(client, caller))
            await asyncio.sleep(0.01)
        await asyncio.sleep(2.5)
        # The members' word counts: the asker's node and the caller that it named.
        assert [request.caller.rpartition("/")[2] for request in engine.asked] == ["greedy", "greedy", "modest"]


async def _ask_and_read(client: Node, caller: str) -> None:
    await read(await client.router.answer(replace(chat(), caller=caller)))


async def test_a_client_cannot_make_up_callers() -> None:
    engine = ScriptedEngine([b"x"])
    async with mesh({}, {"tiny": engine}, role=Role.CLIENT) as (client, _):
        for caller in ("one", "two"):
            await _ask_and_read(client, caller)
        assert len({request.caller for request in engine.asked}) == 1


@dataclass
class Published:
    """One publication of the `models` fact."""

    offers: tuple[Offer, ...]
    is_urgent: bool


async def published(host: Host, during: Callable[[], Awaitable[None]], seconds: float) -> list[Published]:
    """What the host publishes while something happens and for so long after it."""
    told: list[Published] = []

    def publish(fact: bytes, *, is_urgent: bool) -> None:
        told.append(Published(decode_offers(fact, node_id(1)), is_urgent))

    async with asyncio.TaskGroup() as group:
        running = group.create_task(host.run(publish))
        await asyncio.sleep(5)
        assert [one.is_urgent for one in told] == [True]
        told.clear()
        await during()
        await asyncio.sleep(seconds)
        running.cancel()
    return told


async def test_state_changes_are_published_at_once_and_as_urgent() -> None:
    engine = ScriptedEngine()
    host = Host([ServedModel("tiny", engine, FILE_A)])

    async def fail() -> None:
        engine.become(EngineState.FAILED)

    (told,) = await published(host, fail, 0.1)
    assert told.offers[0].state == "failed"
    assert told.is_urgent


async def test_load_is_published_at_most_once_a_second() -> None:
    host = Host([ServedModel("tiny", ScriptedEngine(), FILE_A)])

    async def many_requests() -> None:
        for _ in range(40):
            reply = await host.answer(chat())
            await asyncio.sleep(0.1)
            await reply.close()

    told = await published(host, many_requests, 3)
    assert 2 <= len(told) <= 6
    assert told[-1].offers[0].in_flight == 0
    assert not any(one.is_urgent for one in told)


async def test_without_models_there_is_an_empty_offer_and_a_refusal() -> None:
    host = Host([])
    assert host.offers() == ()
    with pytest.raises(UnknownModel, match="meshd --model"):
        await host.answer(chat())


async def test_a_model_may_come_while_the_host_runs() -> None:
    host = Host()
    engine = EchoEngine("tiny")

    async def come() -> None:
        host.add(ServedModel("tiny", engine, FILE_A))
        while engine.status.state is not EngineState.READY:
            await host.changed()
        assert await read(await host.answer(chat()))

    told = await published_after(host, come)
    assert [offer.name for offer in told[-1].offers] == ["tiny"]
    assert told[0].is_urgent
    with pytest.raises(ValueError, match="already"):
        host.add(ServedModel("tiny", engine, FILE_A))


async def test_a_model_that_goes_answers_what_it_began_and_takes_nothing_new() -> None:
    engine = ScriptedEngine([b"a", 10.0, b"b"])
    host = Host([ServedModel("tiny", engine, FILE_A)])

    async def go() -> None:
        reply = await host.answer(chat())
        async with asyncio.TaskGroup() as group:
            removing = group.create_task(host.remove("tiny"))
            reading = group.create_task(read(reply))
            await asyncio.sleep(1)
            with pytest.raises(UnknownModel):
                await host.answer(chat())
            assert [offer.state for offer in host.offers()] == ["draining"]
            assert not removing.done()
        assert reading.result() == b"ab"

    told = await published_after(host, go)
    urgent = [[offer.state for offer in one.offers] for one in told if one.is_urgent]
    assert urgent == [["ready"], ["draining"], []]


async def test_a_model_that_goes_does_not_wait_for_ever_and_its_engine_ends() -> None:
    ended = asyncio.Event()

    class Watched(ScriptedEngine):
        async def run(self) -> None:
            try:
                await super().run()
            finally:
                ended.set()

    host = Host([ServedModel("tiny", Watched([500.0]), FILE_A)])

    async def go() -> None:
        reply = await host.answer(chat())
        start = asyncio.get_running_loop().time()
        await host.remove("tiny", drain_s=5)
        assert asyncio.get_running_loop().time() - start == pytest.approx(5)
        assert ended.is_set()
        await reply.close()
        host.add(ServedModel("tiny", EchoEngine("tiny"), FILE_A))
        assert [offer.in_flight for offer in host.offers()] == [0]

    await published_after(host, go)


async def published_after(host: Host, during: Callable[[], Awaitable[None]]) -> list[Published]:
    """What the host publishes from its start to a second after something happened."""
    told: list[Published] = []

    def publish(fact: bytes, *, is_urgent: bool) -> None:
        told.append(Published(decode_offers(fact, node_id(1)), is_urgent))

    async with asyncio.TaskGroup() as group:
        running = group.create_task(host.run(publish))
        await asyncio.sleep(1)
        await during()
        await asyncio.sleep(1)
        running.cancel()
    return told
