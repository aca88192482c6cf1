"""A request finds a host, survives the failures it may survive, and ends with a typed error otherwise."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gossip.view import Status
from llm.chat import Accepted, Head, data_records, message
from llm.client import Answer
from llm.engines.echo import EchoEngine, EchoOptions
from llm.engines.interface import EngineFailed, EngineState
from llm.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    HostFailed,
    HostSilent,
    NoHost,
    QueueFull,
    RemoteFailure,
    RequestFailed,
    UnknownModel,
)
from llm.host import Host, ServedModel
from tests.llm.mesh import Node, mesh, show_all
from tests.llm.requests import CHAT, chat, post, read, streamed_text
from tests.llm.scripted import ScriptedEngine
from tests.llm.views import FILE_B
from transport.interface import Record, RecordKind, Stream
from transport.virtual_time import VirtualTimeLoop

loop_factory = VirtualTimeLoop

PROMISED_S = 5.0
"""Within this long a failed host is reported or replaced."""


def broken(retryable: bool = False) -> EngineFailed:
    return EngineFailed("it was killed by SIGKILL", retryable=retryable)


def now() -> float:
    return asyncio.get_running_loop().time()


async def wait_until_idle(node: Node) -> float:
    """How long it takes until the host has nothing in flight."""
    start = now()
    async with asyncio.timeout(10):
        while node.in_flight:
            await node.host.changed()
    return now() - start


async def first_chunk(answer: Answer) -> tuple[bytes, AsyncIterator[bytes]]:
    chunks = answer.chunks()
    return await anext(chunks), chunks


# The way there and back


async def test_the_answer_is_the_same_here_and_there() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny")}) as (client, host):
        for stream in (False, True):
            request = chat(text="one two three", stream=stream)
            there = await client.router.answer(request)
            here = await host.router.answer(request)
            assert (there.node_name, there.is_local, there.mode) == ("n2", False, "solo")
            assert (here.node_name, here.is_local) == ("n2", True)
            assert (there.status, there.headers) == (here.status, here.headers)
            assert await read(there) == await read(here)


async def test_method_path_headers_and_body_arrive_untouched() -> None:
    engine = ScriptedEngine([b"x"])
    body = bytes(range(256)) * 5000
    async with mesh({}, {"tiny": engine}) as (client, _):
        await read(await client.router.answer(post("tiny", "/v1/odd%20path?a=1&b=%2F", body)))
    (asked,) = engine.asked
    assert (asked.method, asked.path, asked.body) == ("POST", "/v1/odd%20path?a=1&b=%2F", body)
    assert asked.headers == (("content-type", "application/json"),)
    assert 0 < asked.deadline_s <= 30


async def test_pieces_of_a_stream_arrive_as_they_were_written() -> None:
    pieces = [b"data: 1\n\n", b"data: 2\n\n", b"data: [DONE]\n\n"]
    async with mesh({}, {"tiny": ScriptedEngine(pieces)}) as (client, _):
        answer = await client.router.answer(chat(stream=True))
        assert [chunk async for chunk in answer.chunks()] == pieces
        await answer.close()


async def test_large_pieces_are_cut_into_records_and_arrive_whole() -> None:
    async with mesh({}, {"tiny": ScriptedEngine([b"y" * 3_000_000])}) as (client, _):
        assert await read(await client.router.answer(chat())) == b"y" * 3_000_000


async def test_an_empty_body_is_an_answer_too() -> None:
    async with mesh({}, {"tiny": ScriptedEngine([])}) as (client, host):
        assert await read(await client.router.answer(chat())) == b""
        assert await read(await host.router.answer(chat())) == b""


async def test_concurrent_requests_spread_over_the_hosts() -> None:
    engines = [EchoEngine("tiny", EchoOptions(tokens_per_s=10.0)) for _ in range(2)]
    async with mesh({}, {"tiny": engines[0]}, {"tiny": engines[1]}) as (client, _, _):
        answers = await asyncio.gather(*(client.router.answer(chat(stream=True)) for _ in range(6)))
        assert sorted(answer.node_name for answer in answers) == ["n2"] * 3 + ["n3"] * 3
        for answer in answers:
            await read(answer)
        assert [engine.status.in_flight for engine in engines] == [0, 0]


async def test_a_prompt_that_takes_minutes_is_waited_for() -> None:
    async with mesh({}, {"tiny": ScriptedEngine([200.0, b"late"], before_head=[100.0])}) as (client, _):
        assert await read(await client.router.answer(chat(deadline_s=600))) == b"late"
        assert client.hints == []


# Before the first byte: another host, or a typed error


async def test_dead_host_is_left_for_another_and_gossip_is_told() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny")}, {"tiny": EchoEngine("tiny")}) as (client, dead, _):
        dead.transport.kill()
        start = now()
        answer = await client.router.answer(chat())
        assert answer.node_name == "n3"
        assert now() - start < 1.5  # half the patience that an only host is given
        assert [node for node, _ in client.hints] == [dead.id]
        await answer.close()


async def test_a_host_that_was_silent_is_asked_last_until_it_starts_again() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny")}, {"tiny": EchoEngine("tiny")}) as (client, dead, other):
        dead.transport.kill()
        await read(await client.router.answer(chat()))
        start = now()
        for _ in range(5):  # gossip has no verdict yet: the view still shows it alive
            answer = await client.router.answer(chat())
            assert answer.node_name == "n3"
            await answer.close()
        assert now() - start < 0.5
        assert len(client.hints) == 1

        client.views.show(client.seen(), replace(dead.seen(), boot=2), other.seen())
        answer = await client.router.answer(chat())
        assert len(client.hints) == 2  # in its new life it was asked first
        await answer.close()


async def test_a_host_that_dies_in_mid_answer_is_told_to_gossip_and_asked_last() -> None:
    slow = EchoEngine("tiny", EchoOptions(tokens_per_s=5.0))
    async with mesh({}, {"tiny": slow}, {"tiny": EchoEngine("tiny")}) as (client, dead, _):
        answer = await client.router.answer(chat(stream=True))
        _, chunks = await first_chunk(answer)
        dead.transport.kill()
        with pytest.raises(HostSilent):
            async for _ in chunks:
                pass
        await answer.close()
        assert [node for node, _ in client.hints] == [dead.id]

        start = now()
        after = await client.router.answer(chat())
        assert (after.node_name, now() - start < 0.5) == ("n3", True)
        await after.close()


async def test_only_host_dead_is_said_within_five_seconds() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny")}) as (client, dead):
        dead.transport.kill()
        start = now()
        with pytest.raises(HostSilent, match="node n2 said nothing"):
            await client.router.answer(chat())
        assert now() - start < PROMISED_S


async def test_an_only_host_that_stood_still_for_a_moment_answers_after_all() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny")}) as (client, host):
        await read(await client.router.answer(chat()))
        client.transport.network.cut(client.id, host.id)
        start = now()
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(client.router.answer(chat()))
            await asyncio.sleep(3.0)
            client.transport.network.mend(client.id, host.id)
        assert asking.result().node_name == "n2"
        assert now() - start < PROMISED_S


async def test_three_dead_hosts_are_said_within_the_same_time() -> None:
    hosts = [{"tiny": EchoEngine("tiny")} for _ in range(3)]
    async with mesh({}, *hosts) as (client, *dead):
        for host in dead:
            host.transport.kill()
        start = now()
        with pytest.raises(HostSilent):
            await client.router.answer(chat())
        assert now() - start < PROMISED_S + 0.5


@pytest.mark.parametrize(
    "failing",
    [
        ScriptedEngine(before_head=[broken(retryable=True)]),
        ScriptedEngine([broken()]),
        ScriptedEngine([0.5, broken()]),
    ],
    ids=["before the head", "after the head", "later, without a byte"],
)
async def test_engine_that_fails_before_the_first_byte_is_replaced(failing: ScriptedEngine) -> None:
    async with mesh({}, {"tiny": failing}, {"tiny": EchoEngine("tiny")}) as (client, host, _):
        assert streamed_text(await read(await client.router.answer(chat(stream=True)))) == "one two three"
        assert len(failing.asked) == 1
        assert host.in_flight == 0
        assert client.hints == []


async def test_local_engine_that_fails_is_replaced_by_another_node() -> None:
    async with mesh({"tiny": ScriptedEngine([broken()])}, {"tiny": EchoEngine("tiny")}) as (here, _):
        answer = await here.router.answer(chat(stream=True))
        assert answer.node_name == "n2"
        await answer.close()
        assert here.in_flight == 0


async def test_engine_that_restarts_in_time_answers_after_all() -> None:
    engine = ScriptedEngine([broken()])
    async with mesh({"tiny": engine}) as (here,):

        async def restart() -> None:
            engine.become(EngineState.FAILED)
            await asyncio.sleep(0.6)
            engine.script = [b"back"]
            engine.become(EngineState.READY)

        async with asyncio.TaskGroup() as group:
            answering = group.create_task(here.router.answer(chat()))
            group.create_task(restart())
        assert await read(answering.result()) == b"back"


async def test_engine_that_stays_broken_is_a_typed_error_within_five_seconds() -> None:
    async with mesh({}, {"tiny": ScriptedEngine([broken()])}) as (client, host):
        for node in (client, host):
            start = now()
            with pytest.raises(RequestFailed, match="killed by SIGKILL") as failure:
                await node.router.answer(chat(stream=True))
            assert failure.value.status == 502
            assert now() - start < PROMISED_S
        assert host.in_flight == 0


async def test_model_that_gets_its_memory_is_waited_for_a_little() -> None:
    engine = ScriptedEngine([b"ready now"])
    engine.become(EngineState.WAITING)
    async with mesh({}, {"tiny": engine}) as (client, host):
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(client.router.answer(chat()))
            await asyncio.sleep(1)
            engine.become(EngineState.READY)
            show_all([client, host])
        assert await read(answering.result()) == b"ready now"


async def test_model_that_goes_on_waiting_is_a_503_with_the_reason() -> None:
    engine = ScriptedEngine()
    engine.become(EngineState.WAITING)
    async with mesh({}, {"tiny": engine}) as (client, _):
        start = now()
        with pytest.raises(NoHost, match=r"n2.*waiting: as scripted") as failure:
            await client.router.answer(chat())
        assert failure.value.retry_after_s
        assert now() - start < PROMISED_S


async def test_unknown_model_is_refused_at_once_with_the_names() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny")}) as (client, _):
        start = now()
        with pytest.raises(UnknownModel, match="there are: tiny"):
            await client.router.answer(chat("huge"))
        assert now() == start


async def test_a_node_that_has_just_started_meets_others_before_it_calls_a_model_unknown() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny")}) as (client, host):
        client.views.show(client.seen())
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(client.router.answer(chat()))
            await asyncio.sleep(1.0)
            client.views.show(client.seen(), replace(host.seen(), facts={}))  # met, but it has not said much yet
            await asyncio.sleep(1.0)
            client.views.show(client.seen(), host.seen())
        assert asking.result().node_name == "n2"


async def test_a_node_that_meets_nobody_says_after_a_while_that_a_model_is_unknown() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny")}) as (client, _):
        client.views.show(client.seen())
        start = now()
        for _ in range(2):  # the second time at once
            with pytest.raises(UnknownModel):
                await client.router.answer(chat())
            assert 1.0 < now() - start < PROMISED_S


async def test_a_model_that_was_there_a_moment_ago_has_no_host_now_or_comes_back() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny")}) as (client, host):
        await read(await client.router.answer(chat()))
        starting = replace(host.seen(), boot=2, facts={})
        client.views.show(client.seen(), starting)
        with pytest.raises(NoHost, match="since a moment ago"):
            await client.router.answer(chat())

        async with asyncio.TaskGroup() as group:
            asking = group.create_task(client.router.answer(chat()))
            await asyncio.sleep(1.0)
            client.views.show(client.seen(), host.seen())
        assert asking.result().node_name == "n2"


async def test_host_that_lost_the_model_since_refuses_it() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny")}, {"other": EchoEngine("other")}) as (client, host, stranger):
        client.views.show(client.seen(), replace(stranger.seen(), facts=host.seen().facts))
        with pytest.raises(RemoteFailure, match=r"no model 'tiny'.*there are: other") as failure:
            await client.router.answer(chat())
        assert failure.value.status == 404


async def test_another_file_of_the_same_name_never_answers() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny")}) as (client, host):
        host.host = Host([ServedModel("tiny", EchoEngine("tiny"), FILE_B)])
        with pytest.raises(RemoteFailure, match="no model 'tiny'"):
            await client.router.answer(chat())


async def test_full_host_is_left_for_another() -> None:
    engine = ScriptedEngine([b"a", 1000.0], slots=1)
    async with mesh({}, {"tiny": engine}, {"tiny": EchoEngine("tiny")}, queue_limit=0) as (client, full, _):
        holding = await full.router.answer(chat(deadline_s=2000))
        answer = await client.router.answer(chat())
        assert answer.node_name == "n3"
        await answer.close()
        await holding.close()


async def test_every_queue_full_is_a_429_at_once() -> None:
    engine = ScriptedEngine([b"a", 1000.0], slots=1)
    async with mesh({}, {"tiny": engine}, queue_limit=0) as (client, host):
        holding = await host.router.answer(chat(deadline_s=2000))
        start = now()
        with pytest.raises(QueueFull):
            await host.router.answer(chat())
        with pytest.raises(RemoteFailure) as failure:
            await client.router.answer(chat())
        assert (failure.value.status, failure.value.code) == (429, "queue_full")
        assert now() - start < 0.1
        await holding.close()


async def test_body_over_the_limit_goes_nowhere() -> None:
    engine = ScriptedEngine([b"x"])
    async with mesh({"tiny": engine}) as (here,):
        with pytest.raises(BodyTooLarge):
            await here.router.answer(post("tiny", CHAT, bytes((64 << 20) + 1)))
    assert engine.asked == []


# After the first byte: what was sent stays, the rest is an error


async def test_engine_that_fails_half_way_says_so_and_is_not_retried() -> None:
    failing = ScriptedEngine([b"data: 1\n\n", b'data: {"half', broken()])
    async with mesh({}, {"tiny": failing}, {"tiny": EchoEngine("tiny")}) as (client, host, _):
        answer = await client.router.answer(chat(stream=True))
        chunk, rest = await first_chunk(answer)
        assert chunk == b"data: 1\n\n"
        with pytest.raises(RequestFailed, match=r"killed by SIGKILL.*n2"):
            await anext(rest)
        await answer.close()
        assert host.in_flight == 0


async def test_local_engine_that_fails_half_way_says_so() -> None:
    async with mesh({"tiny": ScriptedEngine([b"data: 1\n\n", broken()])}) as (here,):
        answer = await here.router.answer(chat(stream=True))
        _, rest = await first_chunk(answer)
        with pytest.raises(EngineFailed):
            await anext(rest)
        await answer.close()
        assert here.in_flight == 0


async def test_host_that_dies_half_way_is_noticed_before_its_link_is() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny", EchoOptions(tokens_per_s=1.0))}) as (client, host):
        answer = await client.router.answer(chat(max_tokens=100, stream=True, deadline_s=600))
        _, rest = await first_chunk(answer)
        host.transport.kill()
        start = now()
        with pytest.raises(HostSilent):
            await anext(rest)
        assert now() - start <= PROMISED_S
        await answer.close()


async def test_short_cut_of_the_link_only_pauses_the_stream() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny", EchoOptions(tokens_per_s=1.0))}) as (client, host):
        answer = await client.router.answer(chat(text="a b c d e f g h", stream=True))
        chunk, rest = await first_chunk(answer)
        client.transport.network.cut(client.id, host.id)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(collect(rest))
            await asyncio.sleep(3)
            client.transport.network.mend(client.id, host.id)
        assert streamed_text(chunk + reading.result()) == "a b c d e f g h"
        await answer.close()


async def test_host_that_shuts_down_half_way_says_so() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny", EchoOptions(tokens_per_s=1.0))}) as (client, host):
        answer = await client.router.answer(chat(max_tokens=100, stream=True, deadline_s=600))
        _, rest = await first_chunk(answer)
        client.transport.lose(host.id, "closed by peer: shutting down")
        with pytest.raises(HostSilent, match="shutting down"):
            await anext(rest)
        await answer.close()


# Deadlines


async def test_no_answer_within_the_deadline_frees_the_host() -> None:
    async with mesh({}, {"tiny": ScriptedEngine([b"x"], before_head=[1000.0])}) as (client, host):
        for node in (client, host):
            start = now()
            with pytest.raises(DeadlineExceeded):
                await node.router.answer(chat(deadline_s=20))
            assert now() - start == pytest.approx(20, abs=0.1)
        assert await wait_until_idle(host) < 1


async def test_answer_cut_off_by_the_deadline_is_an_error_not_an_end() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny", EchoOptions(tokens_per_s=1.0))}) as (client, host):
        for node in (client, host):
            answer = await node.router.answer(chat(max_tokens=100, stream=True, deadline_s=10))
            start = now()
            with pytest.raises(RequestFailed) as failure:
                await collect(answer.chunks())
            assert failure.value.status == 504
            assert now() - start <= 10
            await answer.close()
        assert await wait_until_idle(host) < 1


async def test_deadline_of_the_asker_holds_when_its_host_is_dead() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny")}) as (client, host):
        host.transport.kill()
        start = now()
        with pytest.raises(DeadlineExceeded):
            await client.router.answer(chat(deadline_s=1))
        assert now() - start == pytest.approx(1, abs=0.1)


# Clients that leave


@pytest.mark.parametrize("local", [True, False], ids=["here", "there"])
async def test_cancelled_before_the_first_byte_frees_the_slot(local: bool) -> None:
    async with mesh({}, {"tiny": ScriptedEngine([500.0, b"x"])}) as (client, host):
        async with asyncio.TaskGroup() as group:
            asking = group.create_task((host if local else client).router.answer(chat(deadline_s=1000)))
            while not host.in_flight:
                await host.host.changed()
            asking.cancel()
        assert await wait_until_idle(host) < 1


@pytest.mark.parametrize("local", [True, False], ids=["here", "there"])
async def test_closed_half_way_frees_the_slot(local: bool) -> None:
    async with mesh({}, {"tiny": ScriptedEngine([b"x", 500.0, b"y"])}) as (client, host):
        answer = await (host if local else client).router.answer(chat(deadline_s=1000))
        await first_chunk(answer)
        await answer.close()
        await answer.close()
        assert await wait_until_idle(host) < 1


async def test_asker_that_vanishes_frees_the_slot_once_its_link_is_lost() -> None:
    async with mesh({}, {"tiny": ScriptedEngine([b"x", 5000.0])}) as (client, host):
        answer = await client.router.answer(chat(deadline_s=9000))
        await first_chunk(answer)
        client.transport.kill()
        async with asyncio.timeout(60):
            while host.in_flight:
                await host.host.changed()


async def test_slow_reader_holds_the_engine_back() -> None:
    window = 1 << 18
    engine = ScriptedEngine([b"z" * 65534 + b"\n\n"] * 200)
    async with mesh({}, {"tiny": engine}, window_bytes=window) as (client, _):
        answer = await client.router.answer(chat(deadline_s=3600))
        chunk, rest = await first_chunk(answer)
        await asyncio.sleep(60)
        assert engine.bytes_given <= window + 4 * 65536
        assert len(chunk + await collect(rest)) == 200 * 65536
        await answer.close()


# Hosts that break the protocol


def whole(body: bytes) -> list[Record]:
    return [message(Accepted()), message(Head(200, ())), *data_records(body)]


@pytest.mark.parametrize(
    "said",
    [
        [Record(RecordKind.MESSAGE, b"\xc1")],
        [Record(RecordKind.DATA, b"body first")],
        [message(Head(200, ())), message(Head(200, ()))],
        [message(Accepted())],
        [],
    ],
    ids=["garbage", "data first", "two heads", "no head", "nothing"],
)
async def test_host_that_breaks_the_protocol_is_left_for_another(said: list[Record]) -> None:
    async def speak(stream: Stream) -> None:
        for record in said:
            await stream.send(record)
        await stream.finish()

    async with mesh({}, {"tiny": EchoEngine("tiny")}, {"tiny": EchoEngine("tiny")}) as (client, liar, _):
        liar.host.serve = speak  # type: ignore[method-assign]
        answer = await client.router.answer(chat())
        assert answer.node_name == "n3"
        await answer.close()


async def test_host_that_lies_half_way_is_an_error() -> None:
    async def speak(stream: Stream) -> None:
        for record in [*whole(b"x"), message(Accepted())]:
            await stream.send(record)

    async with mesh({}, {"tiny": EchoEngine("tiny")}) as (client, liar):
        liar.host.serve = speak  # type: ignore[method-assign]
        answer = await client.router.answer(chat())
        _, rest = await first_chunk(answer)
        with pytest.raises(HostFailed, match="Accepted out of turn"):
            await anext(rest)
        await answer.close()


async def test_suspects_still_answer_when_there_is_no_other() -> None:
    async with mesh({}, {"tiny": EchoEngine("tiny")}) as (client, host):
        client.views.show(client.seen(), host.seen(status=Status.SUSPECT))
        answer = json.loads(await read(await client.router.answer(chat())))
        assert answer["choices"][0]["message"]["content"] == "one two three"


async def collect(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def test_a_conversation_stays_where_it_was_read_until_that_node_is_full_or_gone() -> None:
    engines = [ScriptedEngine([b"x"], slots=2) for _ in range(3)]
    async with mesh({}, *({"tiny": engine} for engine in engines)) as (client, *hosts):
        long = "word " * 400

        async def turn() -> int:
            """Which host answers the next turn."""
            before = [len(engine.asked) for engine in engines]
            await read(await client.router.answer(chat(text=long)))
            show_all([client, *hosts])
            return next(place for place, engine in enumerate(engines) if len(engine.asked) > before[place])

        first = await turn()
        # One other request makes it the busier one, which would go to another host otherwise.
        held = [await hosts[first].host.answer(chat())]
        show_all([client, *hosts])
        assert [await turn() for _ in range(5)] == [first] * 5
        held.append(await hosts[first].host.answer(chat()))
        show_all([client, *hosts])
        second = await turn()
        assert second != first
        for reply in held:
            await reply.close()
        show_all([client, *hosts])
        assert await turn() == second  # where it was read last
