"""Real packets, captured and bent: on the port from strangers, on the way, and under keys that are genuine.

Whatever comes, streams of other peers go on, memory stays bounded, and only who sent it is cut.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, cast

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair

from tests.fuzzing import bend
from tests.transport.contract import HEADER, message
from tests.transport.quic_mesh import connect, live_mesh, start, until_connected
from tests.transport.stranger import Stranger
from transport.errors import MeshError
from transport.interface import Address, NodeId, Stream
from transport.quic import QuicTransport
from transport.quic.connection import QuicPeerConnection
from transport.quic.strangers import MAX_HALF_OPEN

pytestmark = pytest.mark.live

FLOOD_PEAK_BYTES = 8 << 20
"""Half-open handshakes, up to the sixteen that no Retry keeps out, and the witness's messages: 1.3 MB measured."""


class Tap(asyncio.DatagramProtocol):
    """Stands between a node and `target`, and keeps what passes. change: what becomes of a packet on the way.

    Use as `async with`. One client: whoever sends first.
    """

    def __init__(self, target: Address) -> None:
        self._target = (target.host, target.port)
        self._client: tuple[str, int] | None = None
        self.from_client: list[bytes] = []
        self.from_target: list[bytes] = []
        self.change: Callable[[bytes], bytes] = bytes

    async def __aenter__(self) -> Tap:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()

    @property
    def address(self) -> Address:
        return Address(*cast(tuple[str, int], self._transport.get_extra_info("sockname")[:2]))

    def datagram_received(self, data: bytes, source: Any) -> None:
        if source == self._target:
            self.from_target.append(data)
            if self._client is not None:
                self._transport.sendto(self.change(data), self._client)
        else:
            self._client = source
            self.from_client.append(data)
            self._transport.sendto(self.change(data), self._target)


class Witness:
    """A member that talks with the owner all the while. count: messages that came back as they were sent."""

    def __init__(self) -> None:
        self.count = 0

    async def talk(self, stream: Stream) -> None:
        while True:
            word = message(b"%d" % self.count * 50)
            await stream.send(word)
            assert await stream.receive() == word
            self.count += 1
            await asyncio.sleep(0)

    async def goes_on(self) -> None:
        """Some more messages pass, in reasonable time."""
        wanted = self.count + 20
        async with asyncio.timeout(60):
            while self.count < wanted:  # noqa: ASYNC110 - counts what others do
                await asyncio.sleep(0.01)


async def echo(transport: QuicTransport, talker: NodeId) -> None:
    """Give back what one peer says; take what others say."""
    async with asyncio.TaskGroup() as group:
        async for stream in transport.streams():
            group.create_task(_echo(stream, stream.peer.node == talker), name="echo")


async def _echo(stream: Stream, back: bool) -> None:
    try:
        while (record := await stream.receive()) is not None:
            if back:
                await stream.send(record)
        await stream.finish()
    except MeshError:
        return


@asynccontextmanager
async def watched() -> AsyncIterator[tuple[QuicTransport, QuicTransport, Witness]]:
    """An owner, a member that is not connected yet, and a witness that is."""
    mesh, witness = live_mesh(), Witness()
    async with (
        start(mesh.owner_now()) as owner,
        start(mesh.member_now()) as member,
        start(mesh.member_now()) as other,
        asyncio.TaskGroup() as group,
    ):
        await connect(owner, other)
        echoing = group.create_task(echo(owner, other.node), name="owner echoes")
        talking = group.create_task(witness.talk(await other.open(owner.node, HEADER)), name="witness talks")
        yield owner, member, witness
        await witness.goes_on()
        talking.cancel()
        echoing.cancel()


def connection_of(one: QuicTransport, other: QuicTransport) -> QuicPeerConnection:
    connection = one._switchboard.connection(other.node)
    assert isinstance(connection, QuicPeerConnection)
    return connection


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.exc_info]


async def until_gone(owner: QuicTransport) -> None:
    async with asyncio.timeout(60):
        while owner._endpoint.half_open:  # noqa: ASYNC110 - nothing announces that a stranger gave up
            await asyncio.sleep(0.05)


async def test_bent_captures_from_strangers_harm_nobody(caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(11)
    async with watched() as (owner, member, witness), Tap(owner.addresses[0]) as tap:
        member.keep(owner.node, (tap.address,))
        await until_connected(member, owner)
        stream = await member.open(owner.node, HEADER)
        for number in range(20):
            await stream.send(message(b"captured %d" % number))
            await asyncio.sleep(0.01)  # a packet each
        captures = tuple(tap.from_client[:12] + tap.from_client[-12:])
        answers = tuple(tap.from_target[:12] + tap.from_target[-12:])
        here, there = connection_of(owner, member), connection_of(member, owner)
        before = witness.count
        tracemalloc.start()
        with caplog.at_level(logging.WARNING), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            for number in range(1500):
                for transport, packets in ((owner, captures), (member, answers)):
                    packet = dice.choice(packets)
                    changed = bend(packet, packets, dice.randrange(1, 4), dice) if number % 10 else packet
                    plain.sendto(changed[:60_000], ("127.0.0.1", transport.addresses[0].port))
                if number % 20 == 0:
                    await asyncio.sleep(0.001)
                assert owner._endpoint.half_open <= MAX_HALF_OPEN
            await witness.goes_on()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert witness.count > before
        assert peak < FLOOD_PEAK_BYTES
        assert not tracebacks(caplog)
        assert (connection_of(owner, member), connection_of(member, owner)) == (here, there)
        await stream.send(message(b"still here"))
        await until_gone(owner)


async def test_packets_bent_on_the_way_are_lost_packets_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(12)

    def damage(packet: bytes) -> bytes:
        return bend(packet, (packet,), 1, dice)[:60_000] if dice.randrange(6) == 0 else packet

    with caplog.at_level(logging.WARNING):
        async with watched() as (owner, member, witness), Tap(owner.addresses[0]) as tap:
            tap.change = damage
            member.keep(owner.node, (tap.address,))
            await until_connected(member, owner, within_s=60)
            stream = await member.open(owner.node, HEADER)
            for number in range(50):
                await stream.send(message(b"%d" % number))
            await stream.finish()
            async with asyncio.timeout(60):
                assert await stream.receive() is None
            await witness.goes_on()
    assert not tracebacks(caplog)


def bend_frames_of(quic: QuicConnection, dice: random.Random, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Have `quic` send other frames than it means to, under its own keys; returns those it meant, as they come."""
    encrypt = CryptoPair.encrypt_packet
    meant: list[bytes] = []

    def encrypt_bent(self: CryptoPair, header: bytes, payload: bytes, number: int) -> bytes:
        if self in quic._cryptos.values() or self in quic._cryptos_initial.values():
            meant.append(payload)
            if dice.randrange(2):
                bent = bend(payload, tuple(meant[-8:]), dice.randrange(1, 3), dice)
                payload = bent[: len(payload)].ljust(len(payload), b"\x00")
        encrypted: bytes = encrypt(self, header, payload, number)
        return encrypted

    monkeypatch.setattr(CryptoPair, "encrypt_packet", encrypt_bent)
    return meant


async def test_strangers_with_bent_frames_are_cut_alone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.WARNING, "meshd"):
        async with watched() as (owner, _, witness):
            await witness.goes_on()
            honest = owner._endpoint.connections
            for seed in range(30):
                async with Stranger(owner.addresses[0]) as stranger:
                    with monkeypatch.context() as patch:
                        meant = bend_frames_of(stranger.quic, random.Random(seed), patch)
                        stranger.begin()
                        await asyncio.sleep(0.05)
                        assert meant
                await witness.goes_on()
                assert not owner.links()[1:]
            await until_gone(owner)
            assert owner._endpoint.connections == honest
    assert not tracebacks(caplog)


@pytest.mark.parametrize("seed", range(4))
async def test_member_with_bent_frames_is_cut_alone(
    seed: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.WARNING, "meshd"):
        async with watched() as (owner, member, witness):
            await connect(owner, member)
            rogue, here = connection_of(member, owner), connection_of(owner, member)
            bend_frames_of(rogue._quic, random.Random(seed), monkeypatch)
            async with asyncio.timeout(60):
                while not here.ended.is_set():
                    if not rogue.ended.is_set():
                        member.send_datagram(owner.node, b"datagram" * 20)
                    await asyncio.sleep(0.01)
            await witness.goes_on()
            await until_connected(member, owner)
            assert connection_of(owner, member) is not here
    assert not tracebacks(caplog)
