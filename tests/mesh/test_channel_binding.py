"""A handshake holds for the TLS session it was made in: recorded or passed on, it opens nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from tests.mesh.house import House, open_house
from tests.mesh.intruder import Intruder
from tests.mesh.middle import Middle, Play, in_the_middle
from tests.transport.quic_mesh import start
from transport import wire
from transport.admission import ClientAdmission, ServerAdmission
from transport.errors import MeshError, RefusalCode, Refused
from transport.handshake import Refusal
from transport.interface import Address, Role
from transport.invite import Invite
from transport.link_effect import Dial
from transport.quic import QuicTransport
from transport.quic.connection import QuicPeerConnection
from transport.site import Site

pytestmark = pytest.mark.live


def through(invite: Invite, address: Address) -> Invite:
    """The invitation, as somebody who can lie about addresses would have it (a name server, a network)."""
    return msgspec.structs.replace(invite, address_texts=(f"{address.host}:{address.port}",))


def uses_left(house: House, invite: Invite) -> int:
    return next(entry.uses_left for entry in house.mesh.book.list(time.time()) if entry.token_id == invite.token_id)


async def counted(transport: QuicTransport) -> dict[str, int]:
    async with asyncio.timeout(60):
        while not transport.refusals:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
    return transport.refusals


def honest(middle: Middle) -> Play:
    return middle.relay


# Recorded


@pytest.mark.parametrize("who", ["a joiner", "a member"])
async def test_what_a_client_said_is_worth_nothing_in_another_session(who: str) -> None:
    async with open_house() as house:
        invite = house.mesh.invite_to(house.owner)
        site = house.mesh.joiner_site() if who == "a joiner" else house.mesh.member_now()
        async with Intruder(house.owner.addresses[0]) as client:
            hello = await client.hear_hello()
            admission = ClientAdmission(site, client.binding, os.urandom, invite if who == "a joiner" else None)
            said = admission.receive(hello, time.time())
            assert isinstance(said, bytes)
            client.say(said)
            assert not isinstance(await client.verdict(), Refusal)

        async with Intruder(house.owner.addresses[0]) as replayer:
            await replayer.hear_hello()
            replayer.say(said)
            verdict = await replayer.verdict()

        assert isinstance(verdict, Refusal) and verdict.code == RefusalCode.BAD_PROOF.value
        assert "does not hold for this connection" in verdict.message


async def test_it_is_the_binding_that_fails_and_not_the_nonce_alone() -> None:
    """A server whose dice fall alike twice still refuses what was said in another session."""
    async with open_house() as house:
        nonce = b"n" * 32
        site, client = house.owner.site, house.mesh.member_now()
        one, two = (ServerAdmission(site, binding * 32, lambda _: nonce) for binding in (b"1", b"2"))
        said = ClientAdmission(client, b"1" * 32, os.urandom).receive(one.start(), time.time())
        assert isinstance(said, bytes)
        one.receive(said, time.time())
        two.start()
        with pytest.raises(Refused, match="does not hold for this connection"):
            two.receive(said, time.time())


async def test_what_a_server_said_is_worth_nothing_to_another_client() -> None:
    async with open_house() as house:
        async with Intruder(house.owner.addresses[0]) as client:
            hello = await client.hear_hello()

        def replay(middle: Middle) -> Play:
            async def play(victim: QuicPeerConnection, server: QuicPeerConnection) -> None:
                victim.greeting.send(hello)
                await victim.greeting.receive()

            return play

        invite = house.mesh.invite_to(house.owner)
        async with (
            in_the_middle(house.mesh.key(), house.owner.addresses[0], replay) as middle,
            start(house.mesh.joiner_site()) as joiner,
        ):
            with pytest.raises(Refused) as refused:
                await joiner.join(through(invite, middle.address), deadline_s=60)
        assert refused.value.code is RefusalCode.BAD_PROOF
        assert "server's signature" in str(refused.value)


# Passed on by somebody between two honest ends


async def test_a_joiner_does_not_enter_through_somebody_in_the_middle() -> None:
    async with open_house() as house:
        invite = house.mesh.invite_to(house.owner)
        async with (
            in_the_middle(house.mesh.key(), house.owner.addresses[0], honest) as middle,
            start(house.mesh.joiner_site()) as joiner,
        ):
            with pytest.raises(Refused) as refused:
                await joiner.join(through(invite, middle.address), deadline_s=60)
            await middle.has_played.wait()

            assert refused.value.code is RefusalCode.BAD_PROOF
            assert "somebody may be passing it on" in str(refused.value)
            assert middle.bindings[0] != middle.bindings[1]
            assert joiner.peers() == () and house.owner.peers() == ()
            assert uses_left(house, invite) == 1

            # What failed was the one in the middle: the same token is good at the true address.
            await joiner.join(invite, deadline_s=60)
            assert uses_left(house, invite) == 0


async def test_a_member_is_not_let_in_through_somebody_in_the_middle() -> None:
    async with (
        open_house() as house,
        in_the_middle(house.mesh.key(), house.owner.addresses[0], honest) as middle,
        start(house.mesh.member_now(Role.CLIENT)) as member,
    ):
        with pytest.raises(Refused) as refused:
            await member._dial_peer(Dial(house.owner.node, (middle.address,)))
        assert refused.value.code is RefusalCode.BAD_PROOF
        assert member.peers() == () and house.owner.peers() == ()


async def quietly(attempt: Callable[[], Awaitable[object]]) -> None:
    """What becomes of it does not matter."""
    with contextlib.suppress(MeshError):
        await attempt()


class Impostor:
    """In the middle with papers of its own: answers the victim itself and shows the server what that replies."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.verdict: bytes = b""

    def play(self, middle: Middle) -> Play:
        async def play(victim: QuicPeerConnection, server: QuicPeerConnection) -> None:
            own = ServerAdmission(self._site, await victim.secured, os.urandom)
            await server.greeting.receive()
            victim.greeting.send(own.start())
            await middle.pass_on(victim, server)
            self.verdict = await server.greeting.receive()

        return play


@pytest.mark.parametrize("who", ["a joiner", "a member"])
async def test_a_true_member_in_the_middle_cannot_be_its_victim_elsewhere(who: str) -> None:
    """The victim talks to it gladly, as to any member; the owner does not take the victim's words from it."""
    async with open_house() as house:
        impostor = Impostor(house.mesh.member_now())
        invite = house.mesh.invite_to(house.owner)
        site = house.mesh.joiner_site() if who == "a joiner" else house.mesh.member_now(Role.CLIENT)
        async with (
            in_the_middle(house.mesh.key(), house.owner.addresses[0], impostor.play) as middle,
            start(site) as victim,
            asyncio.TaskGroup() as group,
        ):
            if who == "a joiner":
                trying = group.create_task(quietly(lambda: victim.join(through(invite, middle.address), 3.0)))
            else:
                node = impostor._site.key.node
                trying = group.create_task(quietly(lambda: victim._dial_peer(Dial(node, (middle.address,)))))
            await middle.has_played.wait()
            assert middle.heard, "the victim did answer"
            assert await counted(house.owner) == {"bad_proof": 1}
            trying.cancel()
        verdict = wire.decode(impostor.verdict, Refusal, peer=None, max_bytes=4096)
        assert "does not hold for this connection" in verdict.message
        assert house.owner.peers() == () and uses_left(house, invite) == 1
