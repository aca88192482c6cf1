"""Tunnels between real TCP connections over real QUIC, through relays that can be cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from tests.transport.quic_mesh import live_mesh, start
from tests.transport.tcp_echo import TcpEcho
from tests.transport.tunnels import Pair, echoed, wired, write_all
from transport.errors import MeshError, Unreachable
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


@dataclass
class Cut:
    """What became of one connection whose link was cut. took_s: until all was echoed, or it was reset."""

    is_whole: bool = False
    took_s: float = 0.0
    accepted: int = 0
    broken: int = 0
    here: MeshError | None = None
    there: list[MeshError] = field(default_factory=list)


async def echoed_through(cuts: Sequence[tuple[float, float]], total_bytes: int) -> Cut:
    """Echo `total_bytes` over a link that is cut at times, for so long."""
    loop, result = asyncio.get_running_loop(), Cut()
    async with TcpEcho() as service, relayed() as way, asyncio.timeout(WAIT_S):
        way.pair.offer("tcp", service.admit)
        async with way.pair.client.listen(way.pair.to("tcp")) as listener:
            app = await connect(listener.address)
            start_at = loop.time()
            for at_s, for_s in cuts:
                loop.call_later(at_s, way.cut)
                loop.call_later(at_s + for_s, way.mend)
            try:
                result.is_whole = await echoed(app, total_bytes)
            except* ConnectionResetError:
                pass
            result.took_s = loop.time() - start_at
            app.close()
            await until(lambda: not listener.tunnels and not way.pair.server.tunnels)
            result.here, result.there = listener.last_failure, way.pair.far.endings
    result.accepted, result.broken = service.accepted, service.broken
    return result


CUTS_S = (1.0, 5.0, 9.0, 11.0)


async def test_real_cuts_up_to_nine_seconds_lose_nothing_and_one_of_eleven_ends_in_an_error() -> None:
    async with asyncio.TaskGroup() as group:  # side by side: a tunnel that waits costs no time
        echoing = {cut_s: group.create_task(echoed_through([(0.3, cut_s)], 8 * MIB)) for cut_s in CUTS_S}
    *mended, broken = (echoing[cut_s].result() for cut_s in CUTS_S)
    for cut_s, cut in zip(CUTS_S, mended, strict=False):
        assert cut.is_whole and cut.took_s > cut_s, (cut_s, cut)  # or it was through before the cut
        assert (cut.accepted, cut.broken, cut.here, cut.there) == (1, 0, None, [])
    assert not broken.is_whole and (broken.accepted, broken.broken) == (1, 1)
    assert isinstance(broken.here, Unreachable) and isinstance(broken.there[0], Unreachable)


async def test_several_real_cuts_in_a_row_lose_nothing() -> None:
    cut = await echoed_through([(0.3, 5.0), (7.0, 4.5), (13.0, 1.0)], 24 * MIB)
    print(cut)
    assert cut.is_whole and (cut.accepted, cut.broken, cut.here, cut.there) == (1, 0, None, [])


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
