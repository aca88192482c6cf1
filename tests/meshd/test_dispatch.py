"""Which streams are served, which are refused, and that a peer's mistake costs only its own stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from meshd.dispatch import Dispatch, Serve
from transport import virtual_time
from transport.errors import ProtocolError, ResetCode, StreamReset
from transport.identity import short
from transport.interface import LinkChanged, NodeId, Record, RecordKind, Role, Stream, StreamHeader
from transport.memory import MemoryNetwork, MemoryTransport

SEED = 1
HELLO = Record(RecordKind.DATA, b"hello")


async def echo(stream: Stream) -> None:
    while (record := await stream.receive()) is not None:
        await stream.send(record)
    await stream.finish()


async def misread(stream: Stream) -> None:
    await stream.receive()
    raise ProtocolError("expected something else")


SERVICES: dict[str, Serve] = {"chat/1": echo, "tunnel/1": echo, "poc/1": misread}


@asynccontextmanager
async def pair(role: Role) -> AsyncIterator[tuple[MemoryTransport, NodeId, Dispatch]]:
    """A node of `role` linked to one that dispatches; yields the asker, the server's id and its dispatch."""
    network = MemoryNetwork(SEED)
    server = network.transport(NodeId(b"s" * 32))
    asker = network.transport(NodeId(b"a" * 32), role)
    dispatch = Dispatch(SERVICES)
    async with server, asker, asyncio.TaskGroup() as group:
        serving = group.create_task(dispatch.run(server))
        asker.keep(server.node, server.addresses)
        assert isinstance(await anext(asker.events()), LinkChanged)
        yield asker, server.node, dispatch
        serving.cancel()


async def ask(asker: MemoryTransport, server: NodeId, protocol: str) -> Record | None:
    stream = await asker.open(server, StreamHeader(protocol, "r1"))
    await stream.send(HELLO)
    await stream.finish()
    return await stream.receive()


def in_virtual_time(scenario: Callable[[], object]) -> None:
    virtual_time.run(scenario(), SEED)  # type: ignore[arg-type]


def test_a_known_protocol_is_served() -> None:
    async def scenario() -> None:
        async with pair(Role.MEMBER) as (asker, server, _):
            assert await ask(asker, server, "chat/1") == HELLO

    in_virtual_time(scenario)


def test_an_unknown_protocol_is_reset_with_its_code() -> None:
    async def scenario() -> None:
        async with pair(Role.MEMBER) as (asker, server, _):
            with pytest.raises(StreamReset) as reset:
                await ask(asker, server, "dance/1")
            assert reset.value.code == ResetCode.UNKNOWN_PROTOCOL

    in_virtual_time(scenario)


@pytest.mark.parametrize("protocol", ["tunnel/1", "poc/1"])
def test_a_client_may_not_open_what_members_use_among_themselves(protocol: str) -> None:
    async def scenario() -> None:
        async with pair(Role.CLIENT) as (asker, server, _):
            with pytest.raises(StreamReset) as reset:
                await ask(asker, server, protocol)
            assert reset.value.code == ResetCode.FORBIDDEN

    in_virtual_time(scenario)


def test_a_peers_mistake_is_counted_and_costs_its_stream_only() -> None:
    async def scenario() -> None:
        async with pair(Role.MEMBER) as (asker, server, dispatch):
            with pytest.raises(StreamReset):
                await ask(asker, server, "poc/1")
            assert dispatch.offences == {short(asker.node): 1}
            assert await ask(asker, server, "chat/1") == HELLO

    in_virtual_time(scenario)
