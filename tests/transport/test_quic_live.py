"""Two and three real endpoints on loopback: joining, restarting, dying, dialling at once, being where they say."""

from __future__ import annotations

import asyncio
import errno
import time
from dataclasses import replace

import msgspec
import pytest

from tests.transport.contract import HEADER, data, message, next_change, next_stream
from tests.transport.quic_mesh import connect, is_connected, live_mesh, start, until_connected
from transport import link
from transport.errors import RefusalCode, Refused, ResetCode, StreamReset, TimedOut, Unreachable
from transport.interface import Address, LinkState, Role
from transport.invite import Invite, format_token, parse_token
from transport.link_effect import Dial
from transport.quic import QuicOptions, QuicTransport, liveness
from transport.quic.connection import QuicPeerConnection

pytestmark = pytest.mark.live

SHARED_MACHINE_S = 30.0
"""Allowed on top of a promise, for a machine that others use too."""

# Joining


async def test_join_by_token_then_member_to_member() -> None:
    mesh = live_mesh()
    async with (
        start(mesh.owner_now()) as owner,
        start(mesh.joiner_site()) as joiner,
        start(mesh.member_now()) as member,
    ):
        joined = await joiner.join(mesh.invite_to(owner), deadline_s=60)
        assert joined.peer.node == owner.node
        assert joined.membership.mesh_id == mesh.membership.mesh_id
        assert joiner.site.membership == joined.membership
        await until_connected(joiner, owner)
        await connect(joiner, member)
        here = await joiner.open(member.node, HEADER)
        await here.send(message(b"hello"))
        there = await next_stream(member)
        assert there.peer.name == "joiner" and there.peer.role is Role.MEMBER
        assert await there.receive() == message(b"hello")


async def test_redemption_is_saved_before_the_joiner_is_let_in() -> None:
    mesh = live_mesh()
    saved: list[bytes] = []

    async def save(token_id: bytes) -> None:
        await asyncio.sleep(0.05)
        assert not joiner.links()
        saved.append(token_id)

    async with (
        start(mesh.owner_now(), options=QuicOptions(save_redemption=save)) as owner,
        start(mesh.joiner_site()) as joiner,
    ):
        invite = mesh.invite_to(owner)
        await joiner.join(invite, deadline_s=60)
        assert saved == [invite.token_id]


async def refusal(joiner: QuicTransport, owner: QuicTransport, invite: Invite) -> RefusalCode:
    """How `owner` refuses, checked to be counted there and to leave nothing behind."""
    before = sum(owner.refusals.values())
    with pytest.raises(Refused) as refused:
        await joiner.join(invite, deadline_s=60)
    assert "\n" not in str(refused.value)
    async with asyncio.timeout(60):
        while sum(owner.refusals.values()) == before:  # noqa: ASYNC110 - counted after the answer has left
            await asyncio.sleep(0.01)
    assert owner.refusals[refused.value.code.value] == 1
    assert not joiner.links() and joiner.site.membership is None
    return refused.value.code


async def test_spent_expired_revoked_and_unknown_tokens_are_refused_and_counted() -> None:
    mesh = live_mesh()
    async with (
        start(mesh.owner_now()) as owner,
        start(mesh.joiner_site()) as first,
        start(mesh.joiner_site()) as joiner,
    ):
        spent = mesh.invite_to(owner)
        await first.join(spent, deadline_s=60)
        assert await refusal(joiner, owner, spent) is RefusalCode.TOKEN_SPENT

        revoked = mesh.invite_to(owner)
        assert mesh.book.revoke(revoked.token_id)
        assert await refusal(joiner, owner, revoked) is RefusalCode.TOKEN_REVOKED

        guessed = parse_token(format_token(replace_secret(mesh.invite_to(owner)), mesh.owner))
        assert await refusal(joiner, owner, guessed) is RefusalCode.BAD_PROOF


def replace_secret(invite: Invite) -> Invite:
    return msgspec.structs.replace(invite, secret=b"\x00" * len(invite.secret))


async def test_token_of_another_mesh_is_refused_by_the_joiner() -> None:
    mesh, other = live_mesh(1), live_mesh(2)
    async with start(mesh.owner_now()) as owner, start(other.joiner_site()) as joiner:
        with pytest.raises(Refused) as refused:
            await joiner.join(other.invite_to(owner), deadline_s=60)
        assert refused.value.code is RefusalCode.WRONG_MESH


async def test_member_of_another_mesh_is_not_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "RECONNECTING_S", 1.0)
    mesh, other = live_mesh(1), live_mesh(2)
    async with start(mesh.owner_now()) as owner, start(other.member_now()) as stranger:
        stranger.keep(owner.node, owner.addresses)
        await next_change(stranger, LinkState.LOST, owner.node)
        assert not owner.links()


async def test_joining_where_nobody_answers_says_so_in_time() -> None:
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, start(mesh.joiner_site()) as joiner:
        invite = mesh.invite_to(owner)
        owner.vanish()
        started = time.monotonic()
        with pytest.raises(TimedOut, match=r"no answer from 127\.0\.0\.1"):
            await joiner.join(invite, deadline_s=1.0)
        assert time.monotonic() - started < 1.0 + SHARED_MACHINE_S


async def test_dead_address_costs_little() -> None:
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, start(mesh.member_now(Role.CLIENT)) as member:
        dead = Address("127.0.0.1", 9)
        member.keep(owner.node, (dead, dead, *owner.addresses))
        await next_change(member, LinkState.CONNECTED, owner.node)


async def test_wrong_node_at_an_address_does_not_end_the_search() -> None:
    mesh = live_mesh()
    async with (
        start(mesh.owner_now()) as owner,
        start(mesh.member_now()) as wrong,
        start(mesh.member_now(Role.CLIENT)) as member,
    ):
        member.keep(owner.node, (*wrong.addresses, *owner.addresses))
        await next_change(member, LinkState.CONNECTED, owner.node)
        assert not is_connected(member, wrong.node)


async def test_join_that_is_given_up_leaves_nothing_behind() -> None:
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, start(mesh.joiner_site()) as joiner:
        invite = mesh.invite_to(owner)
        owner.vanish()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await joiner.join(invite, deadline_s=60)
        await until_closed(joiner)


async def test_dial_that_is_given_up_leaves_nothing_behind() -> None:
    mesh = live_mesh()
    async with start(mesh.member_now(Role.CLIENT)) as client:
        client.keep(mesh.owner.node, (Address("127.0.0.1", 9),))
        await asyncio.sleep(0.1)
        assert client._endpoint.connections
        client.drop(mesh.owner.node, "changed our mind")
        await until_closed(client)
        assert not client.links()


async def until_closed(transport: QuicTransport) -> None:
    async with asyncio.timeout(60):
        while transport._endpoint.connections:  # noqa: ASYNC110 - closing takes QUIC three probe time-outs
            await asyncio.sleep(0.05)


# Restart and death


async def test_restart_with_a_higher_boot_closes_the_old_connection_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "HIGHER_ID_WAITS_S", 0.0)
    monkeypatch.setattr(liveness, "SILENCE_S", 60.0)
    mesh = live_mesh()
    site = mesh.member_now(boot=1)
    async with start(mesh.owner_now()) as owner:
        async with start(site) as member:
            await connect(owner, member)
            here = await owner.open(site.key.node, HEADER)
            member.vanish()
        started = time.monotonic()
        async with start(replace(site, boot=2)) as again:
            again.keep(owner.node, owner.addresses)
            with pytest.raises(Unreachable):
                await here.receive()
            assert time.monotonic() - started < liveness.SILENCE_S
            await until_connected(owner, again)
            stream = await owner.open(again.node, HEADER)
            await stream.send(message(b"welcome back"))
            assert await (await next_stream(again)).receive() == message(b"welcome back")


async def test_killed_peer_is_reconnecting_then_lost_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "RECONNECTING_S", 1.0)
    monkeypatch.setattr(liveness, "SILENCE_S", 1.0)
    monkeypatch.setattr(liveness, "PING_EVERY_S", 1.0)
    mesh = live_mesh()
    site = mesh.member_now(boot=1)
    async with start(mesh.owner_now()) as owner:
        async with start(site) as member:
            await connect(owner, member)
            addresses = member.addresses
            member.vanish()
        await next_change(owner, LinkState.RECONNECTING, site.key.node)
        await next_change(owner, LinkState.LOST, site.key.node)
        async with start(replace(site, boot=2), bind=addresses[0]) as again:
            again.keep(owner.node, owner.addresses)
            await next_change(owner, LinkState.CONNECTED, site.key.node)
            await until_connected(owner, again)


async def test_port_that_nobody_listens_on_raises_doubt_long_before_silence_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(liveness, "SILENCE_S", 60.0)
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, start(mesh.member_now()) as member:
        await connect(owner, member)
        await next_change(owner, LinkState.CONNECTED, member.node)
        member.vanish()
        begun = time.monotonic()
        assert owner.send_datagram(member.node, b"are you there?")
        change = await next_change(owner, LinkState.RECONNECTING, member.node)
        assert change.reason == "nobody listens on its port"
        assert time.monotonic() - begun < liveness.SILENCE_S


async def test_word_of_a_closed_port_that_does_not_quote_the_packet_is_not_believed() -> None:
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, start(mesh.member_now()) as member:
        await connect(owner, member)
        await next_change(owner, LinkState.CONNECTED, member.node)
        (connection,) = owner._endpoint.connections
        where = connection.peer_address
        assert where is not None
        for quoted in (b"", b"@", b"@" + b"x" * 30):
            owner._udp._bounced.append((quoted, where))
            owner._endpoint._take_bounced()
        assert is_connected(owner, member.node)
        owner._udp._bounced.append((b"@" + connection.peer_connection_id + b"x" * 20, where))
        owner._endpoint._take_bounced()
        assert not is_connected(owner, member.node)
        # It does answer: the doubt is over, and the network's word is not asked again for a while.
        await until_connected(owner, member)
        owner._udp._bounced.append((b"@" + connection.peer_connection_id + b"x" * 20, where))
        owner._endpoint._take_bounced()
        assert is_connected(owner, member.node)


async def test_new_request_to_a_killed_peer_fails_soon() -> None:
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, start(mesh.member_now()) as member:
        await connect(owner, member)
        member.vanish()
        async with asyncio.timeout(liveness.PING_EVERY_S + SHARED_MACHINE_S):
            with pytest.raises(Unreachable):
                await owner.open(member.node, HEADER)


async def test_request_under_way_at_a_killed_peer_fails_soon() -> None:
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, start(mesh.member_now()) as member:
        await connect(owner, member)
        stream = await owner.open(member.node, HEADER)
        await (await next_stream(member)).send(message(b"thinking"))
        assert await stream.receive() == message(b"thinking")
        member.vanish()
        async with asyncio.timeout(liveness.PING_EVERY_S + SHARED_MACHINE_S):
            with pytest.raises(Unreachable):
                await stream.receive()


async def test_leaving_is_noticed_at_once() -> None:
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner:
        async with start(mesh.member_now()) as member:
            await connect(owner, member)
            stream = await owner.open(member.node, HEADER)
        async with asyncio.timeout(60):
            with pytest.raises(Unreachable, match="shutting down"):
                await stream.receive()


async def test_client_dials_and_is_known_as_one() -> None:
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, start(mesh.member_now(Role.CLIENT)) as client:
        client.keep(owner.node, owner.addresses)
        change = await next_change(owner, LinkState.CONNECTED, client.node)
        assert change.peer is not None and change.peer.role is Role.CLIENT
        stream = await client.open(owner.node, HEADER)
        await stream.send(message(b"chat"))
        assert (await next_stream(owner)).peer.role is Role.CLIENT


# Two dials at once


async def test_simultaneous_dials_end_in_one_connection_and_break_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "HIGHER_ID_WAITS_S", 0.0)
    mesh = live_mesh()
    for _ in range(5):
        async with start(mesh.member_now()) as one, start(mesh.member_now()) as other:
            one.keep(other.node, other.addresses)
            other.keep(one.node, one.addresses)
            await next_change(one, LinkState.CONNECTED, other.node)
            here = await one.open(other.node, HEADER)
            there = await next_stream(other)
            await asyncio.sleep(0.3)  # the second dial, if there is one, has come home
            await here.send(message(b"still here"))
            assert await there.receive() == message(b"still here")
            await until_connected(one, other)


async def test_retired_connection_serves_its_streams_to_the_end() -> None:
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, start(mesh.member_now()) as member:
        await connect(owner, member)
        here = await owner.open(member.node, HEADER)
        there = await next_stream(member)
        old = owner._switchboard.connection(member.node)
        assert isinstance(old, QuicPeerConnection)
        old.retire("test")
        for _ in range(3):
            await here.send(data(b"x" * 1000))
            assert await there.receive() == data(b"x" * 1000)
            await asyncio.sleep(0.6)
        await here.finish()
        await there.finish()
        async with asyncio.timeout(60):
            await old.ended.wait()


# Addresses


async def test_dual_stack_socket_serves_both_families() -> None:
    mesh = live_mesh()
    async with start(mesh.owner_now(), bind=Address("::", 0)) as owner:
        if not owner._udp.is_dual_stack:
            pytest.skip("this machine has no IPv6")
        port = owner.addresses[0].port
        assert Address("127.0.0.1", port) in owner.addresses
        for host in ("127.0.0.1", "::1", "localhost"):
            async with start(mesh.member_now(Role.CLIENT), bind=Address("::", 0)) as member:
                member.keep(owner.node, (Address(host, port),))
                change = await next_change(member, LinkState.CONNECTED, owner.node)
                assert change.address is not None and "ffff" not in change.address.host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
async def test_host_of_many_addresses_answers_from_the_one_that_was_asked(host: str) -> None:
    mesh = live_mesh()
    async with (
        start(mesh.owner_now(), bind=Address("0.0.0.0", 0)) as owner,
        start(mesh.member_now(Role.CLIENT)) as member,
    ):
        member.keep(owner.node, (Address(host, owner.addresses[0].port),))
        await next_change(member, LinkState.CONNECTED, owner.node)
        await next_change(owner, LinkState.CONNECTED, member.node)
        stream = await owner.open(member.node, HEADER)
        await stream.send(data(bytes(200_000)))
        assert await (await next_stream(member)).receive() == data(bytes(200_000))


async def test_port_in_use_is_an_os_error_that_says_so() -> None:
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner:
        with pytest.raises(OSError) as failure:
            await start(mesh.member_now(), bind=owner.addresses[0]).__aenter__()
        assert failure.value.errno == errno.EADDRINUSE


async def test_unknown_host_name_is_unreachable() -> None:
    mesh = live_mesh()
    async with start(mesh.member_now()) as member:
        with pytest.raises(Unreachable, match=r"nowhere\.invalid"):
            await member._dial_peer(Dial(mesh.owner.node, (Address("nowhere.invalid", 7842),)))


async def test_status_shows_round_trip_and_bytes() -> None:
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, start(mesh.member_now()) as member:
        await connect(owner, member)
        async with asyncio.timeout(60):
            while owner.links()[0].rtt_ms is None:  # noqa: ASYNC110 - nothing announces a measurement
                await asyncio.sleep(0.01)
        (entry,) = owner.links()
        assert entry.carrier == "quic" and entry.name == "member"
        assert entry.rtt_ms is not None and 0 <= entry.rtt_ms < 5000
        assert entry.bytes_sent > 1000 and entry.bytes_received > 1000


async def test_streams_beyond_what_anyone_takes_are_busy() -> None:
    mesh = live_mesh()
    async with start(mesh.owner_now()) as owner, start(mesh.member_now()) as member:
        await connect(owner, member)
        streams = [await owner.open(member.node, HEADER) for _ in range(300)]
        codes: list[int] = []
        for stream in reversed(streams):
            try:
                async with asyncio.timeout(0.2 if codes else 60):
                    await stream.receive()
            except TimeoutError:
                break
            except StreamReset as error:
                codes.append(error.code)
        assert codes and set(codes) == {ResetCode.BUSY}
