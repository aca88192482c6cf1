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
from transport.errors import MeshError, StreamReset, Unreachable
from transport.pipe import connect
from transport.quic import QuicOptions
from transport.relay import UdpRelay
from transport.resumption import Patience
from transport.tunnel_end import TunnelOptions
from transport.tunnel_message import ServiceRefused

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


async def echoed_through(cuts_s: Sequence[float], patience_s: float, total_bytes: int = 4 * MIB) -> Cut:
    """Echo `total_bytes` over a link that is cut for so long, again and again, once more of them have come back."""
    loop, result = asyncio.get_running_loop(), Cut()
    places = [total_bytes * number // (len(cuts_s) + 1) for number in range(1, len(cuts_s) + 1)]
    to_come = list(zip(places, cuts_s, strict=True))
    options = TunnelOptions(patience=Patience(cut_s=patience_s))
    async with TcpEcho() as service, relayed(options) as way, asyncio.timeout(WAIT_S):

        def progress(count: int) -> None:
            if to_come and count >= to_come[0][0]:
                way.cut()
                loop.call_later(to_come.pop(0)[1], way.mend)

        way.pair.offer("tcp", service.admit)
        async with way.pair.client.listen(way.pair.to("tcp")) as listener:
            app = await connect(listener.address)
            start_at = loop.time()
            try:
                result.is_whole = await echoed(app, total_bytes, progress)
            except* ConnectionResetError:
                pass
            result.took_s = loop.time() - start_at
            app.close()
            await until(lambda: not listener.tunnels and not way.pair.server.tunnels)
            result.here, result.there = listener.last_failure, way.pair.far.endings
    result.accepted, result.broken = service.accepted, service.broken
    return result


MENDED_S = ((1.0,), (5.0,), (9.0,), (4.5, 1.0, 4.5))
# How near a cut may come to the patience is shown in virtual time (test_tunnel.py); here dialling may take seconds.
PATIENT_S, IMPATIENT_S, TOO_LONG_S = 20.0, 5.0, 14.0


async def test_real_cuts_shorter_than_the_patience_lose_nothing_and_a_longer_one_ends_in_an_error() -> None:
    """Also several on one tunnel. Side by side: a tunnel that waits costs no time."""
    async with asyncio.TaskGroup() as group:
        mended = [group.create_task(echoed_through(cuts_s, PATIENT_S)) for cuts_s in MENDED_S]
        broken = group.create_task(echoed_through((TOO_LONG_S,), IMPATIENT_S))
    for cuts_s, result in zip(MENDED_S, (task.result() for task in mended), strict=True):
        assert result.is_whole and result.took_s > sum(cuts_s), result
        assert (result.accepted, result.broken, result.here, result.there) == (1, 0, None, [])
    result = broken.result()
    assert not result.is_whole and (result.accepted, result.broken) == (1, 1)
    # Who notices first gives up; the other may notice too, or come back to it and be told.
    endings = (result.here, result.there[0])
    assert any(isinstance(ending, Unreachable) for ending in endings)
    assert all(isinstance(ending, Unreachable | StreamReset | ServiceRefused) for ending in endings)


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
