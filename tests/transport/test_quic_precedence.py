"""What the endpoint does first when control and data connections both have packets."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from tests.transport.quic_mesh import two_members
from tests.transport.test_quic_hostile import connection_of, works
from transport.link_effect import Slot
from transport.quic import endpoint
from transport.quic.endpoint import Endpoint
from transport.quic.udp import SocketAddress

pytestmark = pytest.mark.live

NOBODY = ("127.0.0.1", 9)


@dataclass
class Bench:
    """An endpoint with both connections of a pair, which only note what the endpoint does with them.

    log: slots, in the order in which packets were delivered.  sent: slots, as they were asked what to send.
    """

    endpoint: Endpoint
    ids: dict[Slot, bytes]
    arriving: list[Slot] = field(default_factory=list)
    log: list[Slot] = field(default_factory=list)
    sent: list[Slot] = field(default_factory=list)

    def arrive(self, *slots: Slot) -> None:
        """Let packets of these connections be in the socket when it is read next."""
        self.arriving += slots
        self.endpoint._readable()

    def receive(self) -> list[tuple[bytes, SocketAddress]]:
        packets: list[tuple[bytes, SocketAddress]] = [(b"\x40" + self.ids[slot], NOBODY) for slot in self.arriving]
        self.arriving.clear()
        return packets


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    async with two_members() as (owner, member):
        await works(owner, member)
        connections = {slot: connection_of(owner, member, slot) for slot in Slot}
        await asyncio.sleep(0.1)  # nothing of the handshakes is on its way any more
        bench = Bench(owner._endpoint, {slot: one._quic.host_cid for slot, one in connections.items()})
        with monkeypatch.context() as patch:
            patch.setattr(owner._endpoint._udp, "receive", bench.receive)
            for slot, one in connections.items():

                def note(data: bytes, address: SocketAddress, now: float, slot: Slot = slot) -> None:
                    bench.log.append(slot)
                    bench.endpoint.touch(connections[slot])

                def to_send(now: float, slot: Slot = slot) -> list[tuple[bytes, SocketAddress]]:
                    bench.sent.append(slot)
                    return []

                patch.setattr(one, "datagram_received", note)
                patch.setattr(one, "to_send", to_send)
            yield bench


def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A millisecond passes with every look at the clock."""
    ticks = itertools.count()
    monkeypatch.setattr(endpoint, "monotonic", lambda: next(ticks) / 1000)


async def test_packets_of_the_control_connection_overtake_those_of_the_data_connection(bench: Bench) -> None:
    bench.arrive(*[Slot.DATA] * 20, Slot.CONTROL)
    assert bench.log == [Slot.CONTROL, *[Slot.DATA] * 20]


async def test_packets_of_one_connection_keep_their_order(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_clock(monkeypatch)
    order: list[bytes] = []
    monkeypatch.setattr(bench.endpoint, "_deliver", lambda connection, data, address, now: order.append(data))
    packets = [b"\x40" + bench.ids[Slot.DATA] + bytes([number]) for number in range(60)]
    for some in (packets[:50], packets[50:]):
        monkeypatch.setattr(bench.endpoint._udp, "receive", lambda some=some: [(one, NOBODY) for one in some])
        bench.endpoint._readable()
    async with asyncio.timeout(60):
        while len(order) < len(packets):  # noqa: ASYNC110 - the loop fills it
            await asyncio.sleep(0)
    assert order == packets


async def test_bulk_is_worked_off_in_slices_between_which_others_have_their_turn(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_clock(monkeypatch)
    bench.arrive(*[Slot.DATA] * 100)
    assert 0 < len(bench.log) < 50
    bench.arrive(Slot.CONTROL)
    assert bench.log[-1] is Slot.CONTROL and len(bench.log) < 60
    await asyncio.sleep(0.05)
    assert bench.log.count(Slot.DATA) == 100


async def test_slices_are_answered_together_and_control_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_clock(monkeypatch)
    bench.arrive(*[Slot.DATA] * 100, Slot.CONTROL)
    await asyncio.sleep(0)
    assert bench.sent == [Slot.CONTROL]
    await asyncio.sleep(0.05)
    assert bench.sent == [Slot.CONTROL, Slot.DATA]


async def test_control_goes_first_on_the_way_out(bench: Bench) -> None:
    bench.arrive(Slot.DATA)
    bench.arrive(Slot.CONTROL)
    await asyncio.sleep(0.01)
    assert bench.sent == [Slot.CONTROL, Slot.DATA]


async def test_so_many_packets_wait_and_the_rest_stays_in_the_kernel(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_clock(monkeypatch)
    bench.arrive(*[Slot.DATA] * (2 * endpoint.MAX_WAITING_PACKETS))
    bench.arrive(Slot.DATA)
    assert bench.arriving == [Slot.DATA], "not read"
    async with asyncio.timeout(60):
        while len(bench.log) < 2 * endpoint.MAX_WAITING_PACKETS:  # noqa: ASYNC110 - the loop fills it
            await asyncio.sleep(0)


async def test_goodbyes_are_said_though_bulk_waits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_clock(monkeypatch)
    bench.arrive(*[Slot.DATA] * 100)
    bench.endpoint.close("bye")
    assert bench.sent == [Slot.CONTROL, Slot.DATA]


async def test_nothing_is_delivered_once_the_endpoint_is_gone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_clock(monkeypatch)
    bench.arrive(*[Slot.DATA] * 100)
    delivered = len(bench.log)
    bench.endpoint.vanish()
    await asyncio.sleep(0.05)
    assert len(bench.log) == delivered
