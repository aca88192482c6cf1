"""Every stream protocol against everyone who might try to open it, over real QUIC.

Strangers of all kinds show what they have, are told no, and try their stream regardless: no service ever hears of
it and the connection ends. Who is let in is served what the role allows.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import msgspec
import pytest

from tests.mesh.house import PROTOCOLS, House, open_house
from tests.mesh.intruder import Intruder, read_proof
from tests.transport.meshes import ADDRESSES, DAY_S
from tests.transport.quic_mesh import live_mesh, start, until_connected
from transport import link, link_effect, wire
from transport.admission import ClientAdmission
from transport.certificate import LIFETIME_S
from transport.errors import RefusalCode, ResetCode, StreamReset, Unreachable
from transport.handshake import ClientProof, Refusal
from transport.interface import Role, StreamHeader
from transport.invite import Invite, parse_token
from transport.quic import QuicTransport, admitting
from transport.revocation import Names, Revocations
from transport.rotation import Roots
from transport.site import Site

pytestmark = pytest.mark.live

CLIENTS_OPEN = {"gossip/1", "chat/1", "form/1", "renew/1"}
MAY = {Role.CLIENT: CLIENTS_OPEN, Role.MEMBER: set(PROTOCOLS), Role.OWNER: set(PROTOCOLS)}

EVERY_PROTOCOL = [*PROTOCOLS, link_effect.DIAL_PROTOCOL]
"""The last is for the transport itself, whose answer no service sees."""

Forge = Callable[[House, Intruder, bytes], Awaitable[bytes]]
"""Makes the second message of a handshake, given the first."""


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what other tasks do and nobody announces."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def _short_farewells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is refused and does not hang up, or dials again, waits no longer than these tests need."""
    monkeypatch.setattr(admitting, "REFUSAL_LINGER_S", 0.05)
    monkeypatch.setattr(link, "HIGHER_ID_WAITS_S", 0.0)
    monkeypatch.setattr(link, "OTHER_END_WAITS_S", 0.0)
    monkeypatch.setattr(link, "FIRST_BACKOFF_S", 0.02)


def invite(house: House, role: Role = Role.MEMBER, ttl_s: float = DAY_S) -> Invite:
    return house.mesh.invite_to(house.owner, role, ttl_s)


def answer(house: House, intruder: Intruder, hello: bytes, site: Site, by: Invite | None = None) -> ClientProof:
    """What an honest client with this site would say."""
    message = ClientAdmission(site, intruder.binding, os.urandom, by).receive(hello, time.time())
    assert isinstance(message, bytes)
    return read_proof(message)


async def no_token(house: House, intruder: Intruder, hello: bytes) -> bytes:
    proof = answer(house, intruder, hello, house.mesh.joiner_site(), invite(house))
    return wire.encode(msgspec.structs.replace(proof, join=None))


async def expired_token(house: House, intruder: Intruder, hello: bytes) -> bytes:
    made = time.time() - 3600
    text = house.mesh.book.create(Role.MEMBER, 60, 1, ADDRESSES, made, house.mesh.dice)
    return wire.encode(answer(house, intruder, hello, house.mesh.joiner_site(), parse_token(text)))


async def edited_token(house: House, intruder: Intruder, hello: bytes) -> bytes:
    """One that its holder would not even take: its secret is guessed."""
    edited = msgspec.structs.replace(invite(house), secret=b"guessed".ljust(16))
    return wire.encode(answer(house, intruder, hello, house.mesh.joiner_site(), edited))


async def edited_role(house: House, intruder: Intruder, hello: bytes) -> bytes:
    """A client's token that says it is a member's."""
    edited = msgspec.structs.replace(invite(house, Role.CLIENT), role=Role.MEMBER)
    return wire.encode(answer(house, intruder, hello, house.mesh.joiner_site(), edited))


async def recorded(house: House, site: Site, by: Invite | None = None) -> bytes:
    """What somebody said who was let in, and has left since."""
    async with Intruder(house.owner.addresses[0]) as guest:
        said = wire.encode(answer(house, guest, await guest.hear_hello(), site, by))
        guest.say(said)
        assert not isinstance(await guest.verdict(), Refusal)
        guest.hang_up()
        await until(lambda: not house.owner.peers())
    return said


async def replayed_join(house: House, intruder: Intruder, hello: bytes) -> bytes:
    """What a joiner said in a session of its own, word for word."""
    return await recorded(house, house.mesh.joiner_site(), invite(house))


async def replayed_member(house: House, intruder: Intruder, hello: bytes) -> bytes:
    return await recorded(house, house.mesh.member_now())


async def spent_token(house: House, intruder: Intruder, hello: bytes) -> bytes:
    token = invite(house)
    async with start(house.mesh.joiner_site()) as first:
        await first.join(token, deadline_s=60)
    await until(lambda: not house.owner.peers())
    return wire.encode(answer(house, intruder, hello, house.mesh.joiner_site(), token))


async def revoked_token(house: House, intruder: Intruder, hello: bytes) -> bytes:
    token = invite(house)
    house.mesh.book.revoke(token.token_id)
    return wire.encode(answer(house, intruder, hello, house.mesh.joiner_site(), token))


async def listed_token(house: House, intruder: Intruder, hello: bytes) -> bytes:
    token = invite(house)
    shut_out(house, Names(tokens=frozenset({token.token_id})))
    return wire.encode(answer(house, intruder, hello, house.mesh.joiner_site(), token))


async def token_of_another_mesh(house: House, intruder: Intruder, hello: bytes) -> bytes:
    """Relabelled, so that its holder goes on."""
    foreign = live_mesh(seed=2).invite()
    mesh_id, root = house.mesh.membership.mesh_id, invite(house).root_fingerprint
    relabelled = msgspec.structs.replace(foreign, mesh_id=mesh_id, root_fingerprint=root)
    return wire.encode(answer(house, intruder, hello, house.mesh.joiner_site(), relabelled))


async def member_of_another_mesh(house: House, intruder: Intruder, hello: bytes) -> bytes:
    """A true member there, that signs all it should for here."""
    other = live_mesh(seed=2).member_now()
    honest = answer(house, intruder, hello, replace(house.mesh.joiner_site(), key=other.key), invite(house))
    assert other.membership is not None
    return wire.encode(msgspec.structs.replace(honest, join=None, certificate=other.membership.certificate))


async def expired_member(house: House, intruder: Intruder, hello: bytes) -> bytes:
    stale = house.mesh.member_site(issued=time.time() - LIFETIME_S - DAY_S)
    assert stale.membership is not None
    honest = answer(house, intruder, hello, replace(stale, membership=None), invite(house))
    return wire.encode(msgspec.structs.replace(honest, join=None, certificate=stale.membership.certificate))


async def revoked_member(house: House, intruder: Intruder, hello: bytes) -> bytes:
    outcast = house.mesh.member_now()
    shut_out(house, Names(nodes=frozenset({outcast.key.node})))
    return wire.encode(answer(house, intruder, hello, outcast))


async def client_that_claims_more(house: House, intruder: Intruder, hello: bytes) -> bytes:
    honest = answer(house, intruder, hello, house.mesh.member_now(Role.CLIENT))
    return wire.encode(msgspec.structs.replace(honest, role=Role.OWNER))


async def anothers_certificate(house: House, intruder: Intruder, hello: bytes) -> bytes:
    """A certificate is public: gossip shows it to everyone."""
    seen, own = house.mesh.member_now(), house.mesh.member_now()
    honest = answer(house, intruder, hello, own)
    assert seen.membership is not None
    return wire.encode(msgspec.structs.replace(honest, certificate=seen.membership.certificate))


async def babble(house: House, intruder: Intruder, hello: bytes) -> bytes:
    return b"let me in"


REFUSED: list[tuple[Forge, RefusalCode]] = [
    (no_token, RefusalCode.MALFORMED),
    (expired_token, RefusalCode.TOKEN_EXPIRED),
    (edited_token, RefusalCode.BAD_PROOF),
    (edited_role, RefusalCode.BAD_PROOF),
    (replayed_join, RefusalCode.BAD_PROOF),
    (replayed_member, RefusalCode.BAD_PROOF),
    (spent_token, RefusalCode.TOKEN_SPENT),
    (revoked_token, RefusalCode.TOKEN_REVOKED),
    (listed_token, RefusalCode.TOKEN_REVOKED),
    (token_of_another_mesh, RefusalCode.NOT_ISSUER),
    (member_of_another_mesh, RefusalCode.WRONG_MESH),
    (expired_member, RefusalCode.EXPIRED_CERTIFICATE),
    (revoked_member, RefusalCode.REVOKED),
    (client_that_claims_more, RefusalCode.BAD_CERTIFICATE),
    (anothers_certificate, RefusalCode.BAD_CERTIFICATE),
    (babble, RefusalCode.MALFORMED),
]


def shut_out(house: House, names: Names) -> None:
    """As the owner does."""
    membership = house.mesh.membership
    list_of = Revocations(membership.mesh_id)
    list_of.receive(list_of.amend(house.mesh.root, names, time.time()), Roots(membership.root_public), time.time())
    house.owner.revise(replace(house.owner.site, revoked=list_of.revoked))


@pytest.mark.parametrize("protocol", EVERY_PROTOCOL)
@pytest.mark.parametrize(("forge", "code"), REFUSED, ids=[forge.__name__ for forge, _ in REFUSED])
async def test_who_is_refused_opens_nothing(forge: Forge, code: RefusalCode, protocol: str) -> None:
    async with open_house() as house, Intruder(house.owner.addresses[0]) as intruder:
        intruder.say(await forge(house, intruder, await intruder.hear_hello()))
        verdict = await intruder.verdict()
        assert isinstance(verdict, Refusal) and verdict.code == code.value

        intruder.force_stream(protocol)
        await intruder.until(lambda: intruder.was_cut)

        await until(lambda: bool(house.owner.refusals))
        assert house.owner.refusals == {code.value: 1}
        assert house.served == [] and house.owner.peers() == ()


@pytest.mark.parametrize("protocol", EVERY_PROTOCOL)
@pytest.mark.parametrize("moment", ["before TLS is done", "before the proof", "with the proof"])
async def test_a_stream_before_its_time_ends_the_connection(
    moment: str, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even that of a member, and whatever is said beside it."""
    monkeypatch.setattr(admitting, "HANDSHAKE_S", 0.2 if moment == "before TLS is done" else 1.0)
    async with open_house() as house, Intruder(house.owner.addresses[0]) as intruder:
        if moment == "before TLS is done":
            intruder.begin()
            intruder.force_stream(protocol)
        else:
            hello = await intruder.hear_hello()
            if moment == "with the proof":
                proof = answer(house, intruder, hello, house.mesh.member_now())
                intruder.force_stream(protocol)
                intruder.say(wire.encode(proof))
            else:
                intruder.force_stream(protocol)
        await intruder.until(lambda: intruder.was_cut)
        await until(lambda: not house.owner.peers())
        assert house.served == []


# Who is let in


async def connected(house: House, stack: AsyncExitStack, site: Site) -> QuicTransport:
    peer = await stack.enter_async_context(start(site))
    peer.keep(house.owner.node, house.owner.addresses)
    await until_connected(peer, house.owner)
    return peer


def sites(house: House) -> dict[str, tuple[Site, Role]]:
    mesh = house.mesh
    return {
        "client": (mesh.member_now(Role.CLIENT), Role.CLIENT),
        "member": (mesh.member_now(), Role.MEMBER),
        "delegate": (mesh.delegate_site(issued=time.time()), Role.MEMBER),
        "owner": (mesh.member_now(Role.OWNER), Role.OWNER),
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("who", ["client", "member", "delegate", "owner"])
async def test_who_is_let_in_opens_what_the_role_allows(who: str, protocol: str) -> None:
    async with open_house() as house, AsyncExitStack() as stack:
        site, role = sites(house)[who]
        peer = await connected(house, stack, site)
        stream = await peer.open(house.owner.node, StreamHeader(protocol, "", 0))
        async with asyncio.timeout(60):
            if protocol in MAY[role]:
                record = await stream.receive()
                assert record is not None and record.payload == b"served"
                assert house.served == [(protocol, peer.node)]
                await stream.finish()
                assert await stream.receive() is None
            else:
                with pytest.raises(StreamReset) as reset:
                    await stream.receive()
                assert reset.value.code == ResetCode.FORBIDDEN
                assert house.served == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("who", ["client", "member", "delegate", "owner"])
async def test_who_is_revoked_mid_connection_loses_every_stream_and_gets_no_other(who: str, protocol: str) -> None:
    async with open_house() as house, AsyncExitStack() as stack:
        site, role = sites(house)[who]
        peer = await connected(house, stack, site)
        stream = await peer.open(house.owner.node, StreamHeader(protocol, "", 0))
        async with asyncio.timeout(60):
            if protocol in MAY[role]:
                assert await stream.receive() is not None
            else:
                with pytest.raises(StreamReset):
                    await stream.receive()

            shut_out(house, Names(nodes=frozenset({peer.node})))

            assert house.owner.peers() == ()
            if protocol in MAY[role]:
                with pytest.raises(Unreachable, match="has revoked"):
                    await stream.receive()
                await until(lambda: bool(house.ended))
                assert isinstance(house.ended[0], Unreachable)
            await until(lambda: house.owner.refusals.get("revoked", 0) > 0)  # it dials again by itself
        with pytest.raises(Unreachable):
            await peer.open(house.owner.node, StreamHeader(protocol, "", 0))
        assert len(house.served) == (protocol in MAY[role]) and house.owner.peers() == ()
