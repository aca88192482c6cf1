"""form/1 as a peer speaks it that keeps no rule: what is refused, what is told, what is left when it goes."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from forms.call_message import (
    PROTOCOL,
    WORKING_INTERVAL_S,
    FormAccepted,
    FormAnswer,
    FormCall,
    FormFailure,
    FormMeasure,
    FormWorking,
    NodeMessage,
    message,
    read_answer,
)
from forms.errors import Kind
from forms.mesh_door import CLIENTS, MEMBERS, PAUSE_S
from tests.forms.nodes import Node, nodes, sort_call, until
from transport import virtual_time
from transport.errors import ResetCode, StreamReset
from transport.interface import Record, RecordKind, Role, Stream, StreamHeader


def run(scenario: Coroutine[Any, Any, None]) -> None:
    virtual_time.run(scenario)


def data(payload: bytes) -> Record:
    return Record(RecordKind.DATA, payload)


async def opened(asker: Node, node: Node, *records: Record) -> Stream:
    stream = await asker.transport.open(node.id, StreamHeader(PROTOCOL, "", 60_000))
    for record in records:
        await stream.send(record)
    return stream


async def said(stream: Stream) -> tuple[list[NodeMessage], bytes]:
    """All that the node says, until it finishes."""
    messages: list[NodeMessage] = []
    reply = b""
    while (record := await stream.receive()) is not None:
        if record.kind is RecordKind.MESSAGE:
            messages.append(read_answer(record.payload, stream.peer.node))
        else:
            reply += record.payload
    return messages, reply


SORT = sort_call(3).encode()


@pytest.mark.parametrize(
    "records",
    [
        [data(b"(ping)")],
        [Record(RecordKind.MESSAGE, b"\xc1")],
        [message(FormAccepted())],
        [message(FormCall(True, 6)), data(b"(ping) (ping)")],
        [message(FormCall(True, 6)), message(FormCall(True, 6))],
        [message(FormCall(True, 6)), data(b"")],
        [message(FormCall(True, len(SORT))), data(SORT), data(b"more")],
    ],
)
def test_who_breaks_the_rules_is_cut_off_and_named(records: Sequence[Record]) -> None:
    async def scenario() -> None:
        async with nodes(1.0, 1e6) as (asker, node):
            stream = await opened(asker, node, *records)
            with pytest.raises(StreamReset) as reset:
                await said(stream)
            assert reset.value.code == ResetCode.PROTOCOL_ERROR
            assert len(node.offences) == 1
            await until(lambda: node.session.here.in_flight == 0)

    run(scenario())


@pytest.mark.parametrize(
    ("call", "payload", "reply"),
    [
        (FormCall(True, 5), b"(ping", b"(error (syntax "),
        (FormCall(True, 12), b"(ping)(ping)", b"(error (syntax "),
        (FormCall(True, 100), b"(" * 100, b"(error (limit "),
        (FormCall(True, 0), b"", b"(error (syntax "),
        (FormCall(False, 8), b"BXYZ1234", b"BERR\x05\0\0\0"),
        (FormCall(False, 3), b"BSR", b"BERR\x01\0\0\0"),
        (FormCall(False, 24), struct.pack("<4sIQQ", b"BSRT", 0, 2, 7), b"BERR\x01\0\0\0"),
        (FormCall(False, 24), struct.pack("<4sIQQ", b"BSRT", 0, 1 << 60, 7), b"BERR\x02\0\0\0"),
    ],
)
def test_a_call_that_is_none_is_told_so(call: FormCall, payload: bytes, reply: bytes) -> None:
    async def scenario() -> None:
        async with nodes(1.0, 1.0) as (asker, node):
            stream = await opened(asker, node, message(call), *([data(payload)] if payload else []))
            messages, told = await said(stream)
            assert [type(one) for one in messages] == [FormAccepted, FormAnswer]
            assert told.startswith(reply)
            assert node.offences == []

    run(scenario())


def test_a_node_says_that_it_lives_while_it_computes() -> None:
    async def scenario() -> None:
        async with nodes(1.0, 1e5) as (asker, node):
            messages, _ = await said(await opened(asker, node, message(FormCall(True, len(SORT))), data(SORT)))
            answer = messages[-1]
            assert isinstance(answer, FormAnswer)
            working = sum(isinstance(one, FormWorking) for one in messages)
            assert working == pytest.approx(answer.held_s / WORKING_INTERVAL_S, abs=2)

    run(scenario())


def test_a_call_that_nobody_wants_any_more_ends() -> None:
    async def scenario() -> None:
        async with nodes(1.0, 1e6) as (asker, node):
            stream = await opened(asker, node, message(FormCall(True, len(SORT))), data(SORT))
            await until(lambda: node.session.here.in_flight == 1)
            stream.reset(ResetCode.CANCELLED)
            await until(lambda: node.session.here.in_flight == 0)

    run(scenario())


def test_an_asker_that_falls_silent_is_not_waited_for() -> None:
    async def scenario() -> None:
        async with nodes(1.0, 1.0) as (asker, node):
            stream = await opened(asker, node, message(FormCall(True, 1000)), data(b"(echo "))
            with pytest.raises(StreamReset) as reset:
                await said(stream)
            assert reset.value.code == ResetCode.DEADLINE
            assert asyncio.get_running_loop().time() >= PAUSE_S

    run(scenario())


@pytest.mark.parametrize(("role", "most"), [(Role.CLIENT, CLIENTS.in_flight), (Role.MEMBER, MEMBERS.in_flight)])
def test_so_many_calls_of_one_node_at_once_and_no_more(role: Role, most: int) -> None:
    async def scenario() -> None:
        async with nodes(1.0, 1e6, role=role) as (asker, node):
            calls = [await opened(asker, node, message(FormCall(True, len(SORT))), data(SORT)) for _ in range(most)]
            await until(lambda: node.session.here.in_flight == most)
            messages, _ = await said(await opened(asker, node, message(FormCall(True, len(SORT))), data(SORT)))
            assert isinstance(messages[-1], FormFailure)
            assert messages[-1].code == Kind.BUSY.value
            for stream in calls:
                stream.reset(ResetCode.CANCELLED)

    run(scenario())


def test_a_node_that_is_asked_measures_its_forms_once() -> None:
    async def scenario() -> None:
        async with nodes(1.0, 1.0) as (asker, node):
            for _ in range(3):
                messages, _ = await said(await opened(asker, node, message(FormMeasure())))
                assert messages == [FormAccepted()]
                await until(lambda: node.is_measured)
            assert node.worker.begun == 6

    run(scenario())
