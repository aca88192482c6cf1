"""Tunnels between real TCP connections over real QUIC, through relays that can be cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.transport.quic_mesh import live_mesh, start
from tests.transport.tcp_echo import TcpEcho
from tests.transport.tunnels import Pair, echoed, wired, write_all
from transport.errors import Unreachable
from transport.pipe import connect
from transport.quic import QuicOptions
from transport.relay import UdpRelay
from transport.resumption import Patience
from transport.tunnel_end import TunnelOptions

pytestmark = pytest.mark.live

MIB = 1 << 20
WAIT_S = 60.0


class Way:
    """Both directions in which the two nodes dial each other."""

    def __init__(self, pair: Pair, *relays: UdpRelay) -> None:
        self.pair = pair
        self._relays = relays

    def cut(self) -> None:
        for relay in self._relays:
            relay.cut()

    def mend(self) -> None:
        for relay in self._relays:
            relay.mend()


@asynccontextmanager
async def relayed(options: TunnelOptions | None = None) -> AsyncIterator[Way]:
    mesh = live_mesh()
    over_quic = QuicOptions(bulk=False)  # a bulk lane would go around the relays
    async with (
        start(mesh.owner_now(), options=over_quic) as near,
        start(mesh.member_now(), options=over_quic) as far,
        UdpRelay(far.addresses[0]) as to_far,
        UdpRelay(near.addresses[0]) as to_near,
        wired(near, far, ((to_far.address,), (to_near.address,)), options) as pair,
    ):
        yield Way(pair, to_far, to_near)


@pytest.mark.parametrize("cut_s", [0.0, 1.0, 5.0])
async def test_bytes_echoed_through_a_real_cut_arrive_whole_over_the_same_connections(cut_s: float) -> None:
    async with TcpEcho() as service, relayed() as way:
        way.pair.offer("tcp", service.admit)
        async with way.pair.client.listen(way.pair.to("tcp")) as listener:
            app = await connect(listener.address)
            loop = asyncio.get_running_loop()
            start_at = loop.time()
            if cut_s:
                loop.call_later(0.3, way.cut)
                loop.call_later(0.3 + cut_s, way.mend)
            async with asyncio.timeout(WAIT_S):
                assert await echoed(app, 16 * MIB)
            assert loop.time() - start_at > cut_s  # or it was through before the cut
            app.close()
            await until(lambda: not listener.tunnels and not way.pair.server.tunnels)
            assert not listener.failures and not way.pair.far.endings
        assert (service.accepted, service.broken) == (1, 0)


async def test_tunnel_takes_the_bulk_lane_and_goes_on_without_it_when_it_breaks() -> None:
    mesh = live_mesh()
    async with (
        TcpEcho() as service,
        start(mesh.owner_now()) as near,
        start(mesh.member_now()) as far,
        wired(near, far) as pair,
    ):
        pair.offer("tcp", service.admit)
        async with pair.client.listen(pair.to("tcp")) as listener:
            app = await connect(listener.address)
            async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
                whole = group.create_task(echoed(app, 16 * MIB))
                await until(lambda: near.links()[0].bytes_received > 2 * MIB)
                assert near.links()[0].carrier == "quic+bulk"
                lane = next(iter(near._bulk._pairings.values())).lane  # type: ignore[union-attr]
                assert lane is not None
                lane._connection._transport.abort()  # type: ignore[union-attr]
            assert whole.result()
            assert near.links()[0].carrier == "quic"
            app.close()
            await until(lambda: not listener.tunnels and not pair.server.tunnels)
            assert not listener.failures and not pair.far.endings
        assert (service.accepted, service.broken) == (1, 0)


async def test_link_that_does_not_come_back_resets_the_real_connections_at_both_ends() -> None:
    impatient = TunnelOptions(patience=Patience(cut_s=1.0))
    async with TcpEcho() as service, relayed(impatient) as way:
        way.pair.offer("tcp", service.admit)
        async with way.pair.client.listen(way.pair.to("tcp")) as listener:
            app = await connect(listener.address)
            asyncio.get_running_loop().call_later(0.3, way.cut)
            with pytest.raises(ExceptionGroup) as failed:
                async with asyncio.timeout(WAIT_S):
                    await echoed(app, 64 * MIB)
            assert failed.group_contains(ConnectionResetError)
            app.close()
            await until(lambda: bool(way.pair.far.endings and service.broken))
            assert set(listener.failures) == {"Unreachable"}
            assert isinstance(way.pair.far.endings[0], Unreachable)


async def test_closing_the_listener_resets_what_it_carries() -> None:
    async with TcpEcho() as service, relayed() as way:
        way.pair.offer("tcp", service.admit)
        async with way.pair.client.listen(way.pair.to("tcp")) as listener:
            address = listener.address
            app = await connect(address)
            await write_all(app, b"x")
            assert await app.read(1) == b"x"
        with pytest.raises(ConnectionResetError):
            await app.read(1)
        app.close()
        with pytest.raises(Unreachable):
            await connect(address)
        await until(lambda: bool(service.broken) and not way.pair.server.tunnels)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not holds():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.05)
