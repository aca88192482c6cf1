"""Asking to come in over real QUIC: looking says nothing, waiting costs nothing, and a yes makes a member."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from tests.transport.quic_mesh import LiveMesh, live_mesh, start, until_connected
from transport.errors import RefusalCode, Refused, TimedOut, Unreachable
from transport.interface import Address, Role
from transport.pairing import PairingDesk, StillWaiting
from transport.quic import QuicOptions, QuicTransport

pytestmark = pytest.mark.live

PATIENCE_S = 60.0


@pytest.fixture
def mesh() -> LiveMesh:
    return live_mesh()


def owner_of(mesh: LiveMesh, desk: PairingDesk | None) -> QuicTransport:
    return start(mesh.owner_now(), options=QuicOptions(desk=desk))


async def test_looking_tells_whose_mesh_it_is_and_leaves_no_trace(mesh: LiveMesh) -> None:
    desk = PairingDesk()
    async with owner_of(mesh, desk) as owner, start(mesh.joiner_site()) as asker:
        seen = await asker.look(owner.addresses[0], PATIENCE_S)

        assert (seen.mesh_id, seen.name, seen.node) == (mesh.membership.mesh_id, "attic", owner.node)
        assert seen.root_public == mesh.root.public
        assert (owner.refusals, owner.peers(), desk.list(0.0)) == ({}, (), ())


async def test_nobody_to_look_at_is_told(mesh: LiveMesh) -> None:
    async with start(mesh.joiner_site()) as asker:
        with pytest.raises((Unreachable, TimedOut)):
            await asker.look(Address("127.0.0.1", 9), 0.5)
        async with start(mesh.joiner_site()) as other:
            with pytest.raises(Refused):
                await asker.look(other.addresses[0], PATIENCE_S)


@pytest.mark.parametrize("role", [Role.MEMBER, Role.CLIENT])
async def test_an_asker_waits_and_then_is_a_member(mesh: LiveMesh, role: Role) -> None:
    desk = PairingDesk()
    async with owner_of(mesh, desk) as owner, start(mesh.joiner_site(role)) as asker:
        there = owner.addresses[0]
        seen = await asker.look(there, PATIENCE_S)
        waiting = await asker.knock(there, seen, "", PATIENCE_S)
        assert isinstance(waiting, StillWaiting)
        assert await asker.knock(there, seen, waiting.code, PATIENCE_S) == waiting
        assert owner.refusals == {}

        desk.decide(waiting.code, "accepted", owner_time(desk))
        joined = await asker.knock(there, seen, waiting.code, PATIENCE_S)

        assert not isinstance(joined, StillWaiting)
        assert joined.peer.node == owner.node
        assert asker.site.membership == joined.membership
        await until_connected(asker, owner)
        assert [(peer.node, peer.role) for peer in owner.peers()] == [(asker.node, role)]


def owner_time(desk: PairingDesk) -> float:
    """When the desk's only request came in."""
    (request,) = desk.list(0.0)
    return request.since


async def test_a_refused_asker_is_told_and_counted(mesh: LiveMesh) -> None:
    desk = PairingDesk()
    async with owner_of(mesh, desk) as owner, start(mesh.joiner_site()) as asker:
        there = owner.addresses[0]
        seen = await asker.look(there, PATIENCE_S)
        waiting = await asker.knock(there, seen, "", PATIENCE_S)
        assert isinstance(waiting, StillWaiting)
        desk.decide(waiting.code, "refused", owner_time(desk))

        with pytest.raises(Refused, match="said no"):
            await asker.knock(there, seen, waiting.code, PATIENCE_S)
        async with asyncio.timeout(PATIENCE_S):
            while not owner.refusals:  # noqa: ASYNC110 - counted once the other end has hung up
                await asyncio.sleep(0.01)
        assert owner.refusals == {"pairing_refused": 1}


async def test_where_nobody_looks_after_requests_there_are_none(mesh: LiveMesh) -> None:
    async with owner_of(mesh, None) as owner, start(mesh.joiner_site()) as asker:
        seen = await asker.look(owner.addresses[0], PATIENCE_S)
        with pytest.raises(Refused) as refused:
            await asker.knock(owner.addresses[0], seen, "", PATIENCE_S)

        assert refused.value.code is RefusalCode.NOT_ISSUER


async def test_another_node_at_the_address_is_not_asked(mesh: LiveMesh) -> None:
    desk = PairingDesk()
    async with owner_of(mesh, desk) as owner, start(mesh.member_now()) as member, start(mesh.joiner_site()) as asker:
        seen = await asker.look(owner.addresses[0], PATIENCE_S)
        with pytest.raises(Refused, match="got another one"):
            await asker.knock(member.addresses[0], seen, "", PATIENCE_S)


async def test_a_stranger_from_elsewhere_needs_a_token(mesh: LiveMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = PairingDesk()
    async with owner_of(mesh, desk) as owner, start(mesh.joiner_site()) as asker:
        there = owner.addresses[0]
        seen = await asker.look(there, PATIENCE_S)
        monkeypatch.setattr(psutil, "net_if_addrs", dict)  # a machine in no network that the asker is in
        with pytest.raises(Refused, match="on your own network") as refused:
            await asker.knock(there, seen, "", PATIENCE_S)

    assert refused.value.code is RefusalCode.NOT_ISSUER
    assert desk.list(0.0) == ()
