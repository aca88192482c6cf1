"""What members may ask of each other, over real QUIC: passing a joiner on, renewing, and how much of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import msgspec
import pytest

from meshd import renewals
from meshd.belonging import load
from meshd.datadir import DataDir
from meshd.standing import Standing
from tests.mesh.standing_node import standing_node
from tests.transport.contract import HEADER, message, next_stream
from tests.transport.quic_mesh import LOOPBACK, LiveMesh, connect, live_mesh, start
from transport import forwarding, link
from transport.certificate import Membership
from transport.errors import RefusalCode, Refused, Unreachable
from transport.handshake import MAX_MESSAGE_BYTES, read_message
from transport.interface import Role, Stream, StreamHeader
from transport.invite import Invite, parse_token
from transport.question import ask
from transport.quic import QuicOptions, QuicTransport
from transport.renewal import PROTOCOL, Renewed, Renewing

pytestmark = pytest.mark.live

SEEDS = count(100)
RENEW = StreamHeader(PROTOCOL, "", 5000)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "HIGHER_ID_WAITS_S", 0.0)


@dataclass
class Founder:
    """A founder as the agent makes one, serving what belongs to membership."""

    standing: Standing
    transport: QuicTransport

    def invite(self, uses: int = 1) -> Invite:
        book = self.standing.belonging.tokens
        assert book is not None
        now = time.time()
        return parse_token(book.create(Role.MEMBER, 600, uses, self.transport.addresses, now, os.urandom))

    def joins(self) -> QuicTransport:
        """The endpoint of somebody who wants in."""
        return start(LiveMesh(seed=next(SEEDS)).joiner_site())


@asynccontextmanager
async def founder_in(folder: Path) -> AsyncIterator[Founder]:
    directory = DataDir(folder)
    directory.create()
    belonging = load(directory, os.urandom)
    belonging.found("home", time.time(), os.urandom)
    standing = Standing(belonging, time.time, os.urandom)
    async with standing_node(standing, Role.OWNER) as node:
        yield Founder(standing, node.transport)


@asynccontextmanager
async def with_members(folder: Path, number: int) -> AsyncIterator[tuple[Founder, list[QuicTransport]]]:
    """A founder, and nodes that joined by a token of it and are connected."""
    async with founder_in(folder) as founder, AsyncExitStack() as stack:
        members = []
        invite = founder.invite(uses=number)
        for _ in range(number):
            member = await stack.enter_async_context(founder.joins())
            await member.join(invite, deadline_s=60)
            await connect(member, founder.transport)
            members.append(member)
        yield founder, members


def at(invite: Invite, introducer: QuicTransport) -> Invite:
    """The invitation, with nobody else's address in it."""
    address = introducer.addresses[0]
    return msgspec.structs.replace(invite, address_texts=(f"{address.host}:{address.port}",))


async def renewal(member: QuicTransport, founder: Founder) -> Membership | None:
    assert member.site.membership is not None
    renewing = Renewing(member.site.key, member.site.membership, frozenset(), time.time())
    answer = await ask(member, founder.transport.node, RENEW, renewing.request(), MAX_MESSAGE_BYTES)
    return renewing.receive(answer, founder.transport.node, time.time())


# Joining through a member


async def test_a_joiner_enters_at_a_member_and_the_use_is_on_disk(tmp_path: Path) -> None:
    async with with_members(tmp_path, 1) as (founder, (member,)), founder.joins() as joiner:
        invite = founder.invite()
        joined = await joiner.join(at(invite, member), deadline_s=60)
        assert joined.peer.node == member.node
        assert {peer.node for peer in member.peers()} == {founder.transport.node, joiner.node}
        kept = load(DataDir(tmp_path), os.urandom).tokens
        assert kept is not None
        spent = next(entry for entry in kept.list(time.time()) if entry.token_id == invite.token_id)
        assert spent.uses_left == 0


async def test_a_token_spent_at_one_member_is_spent_at_another(tmp_path: Path) -> None:
    async with (
        with_members(tmp_path, 2) as (founder, (one, two)),
        founder.joins() as first,
        founder.joins() as second,
    ):
        invite = founder.invite()
        await first.join(at(invite, one), deadline_s=60)
        with pytest.raises(Refused) as refused:
            await second.join(at(invite, two), deadline_s=60)
        assert refused.value.code is RefusalCode.TOKEN_SPENT
        async with asyncio.timeout(60):
            while not two.refusals:  # noqa: ASYNC110 - counted after the answer has left
                await asyncio.sleep(0.01)
        assert two.refusals == {"token_spent": 1}


async def test_a_member_without_a_link_to_the_issuer_says_so(tmp_path: Path) -> None:
    async with with_members(tmp_path, 1) as (founder, (member,)), founder.joins() as joiner:
        invite = at(founder.invite(), member)
        founder.transport.drop(member.node, "test")
        member.drop(founder.transport.node, "test")
        with pytest.raises(Refused, match="cannot be reached now") as refused:
            await joiner.join(invite, deadline_s=60)
        assert refused.value.code is RefusalCode.NOT_ISSUER


async def test_a_full_disk_at_the_issuer_keeps_the_joiner_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with with_members(tmp_path, 1) as (founder, (member,)), founder.joins() as joiner:
        invite = at(founder.invite(), member)

        def full(self: DataDir, name: str, content: bytes) -> None:
            raise OSError("no space left on device")

        monkeypatch.setattr(DataDir, "write", full)
        with pytest.raises(Refused, match="cannot write its token book") as refused:
            await joiner.join(invite, deadline_s=60)
        assert refused.value.code is RefusalCode.BUSY
        assert joiner.peers() == ()


async def test_strangers_take_only_so_much_of_an_issuers_time_through_a_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has seen one token's id can make a member ask; the member stops asking before the issuer minds."""
    # However long the tries take here, the allowance does not grow meanwhile.
    monkeypatch.setattr(forwarding, "ALLOWANCE", replace(forwarding.ALLOWANCE, per_second=0.001))
    async with with_members(tmp_path, 1) as (founder, (member,)):
        forgery = msgspec.structs.replace(at(founder.invite(), member), secret=b"guessed".ljust(16))
        codes = []
        for _ in range(forwarding.BURST + 8):
            async with founder.joins() as stranger:
                with pytest.raises(Refused) as refused:
                    await stranger.join(forgery, deadline_s=60)
            codes.append(refused.value.code)
            if refused.value.code is RefusalCode.BUSY:
                break
        assert codes[-1] is RefusalCode.BUSY
        assert set(codes[:-1]) == {RefusalCode.BAD_PROOF} and len(codes) > forwarding.BURST


async def test_a_member_that_asks_too_much_is_told_to_wait_and_others_are_not(tmp_path: Path) -> None:
    """By a member that keeps no budget of its own."""
    async with with_members(tmp_path, 2) as (founder, (greedy, other)):
        header = StreamHeader(forwarding.PROTOCOL, "", 3000)

        async def asked(member: QuicTransport) -> RefusalCode:
            answer = await ask(member, founder.transport.node, header, b"nonsense", MAX_MESSAGE_BYTES)
            with pytest.raises(Refused) as refused:
                read_message(answer, Renewed, founder.transport.node)
            return refused.value.code

        codes = [await asked(greedy) for _ in range(forwarding.BURST + 30)]
        assert codes[0] is RefusalCode.MALFORMED and codes[-1] is RefusalCode.BUSY
        assert await asked(other) is RefusalCode.MALFORMED


# Revoked while somebody thinks


async def test_who_is_revoked_while_its_token_is_written_down_is_not_let_in(tmp_path: Path) -> None:
    mesh = live_mesh()
    joiner_site = mesh.joiner_site()

    async def save(token_id: bytes) -> None:
        owner.revise(replace(owner.site, revoked=frozenset({joiner_site.key.node})))

    async with (
        start(mesh.owner_now(), options=QuicOptions(save_redemption=save)) as owner,
        start(joiner_site) as joiner,
    ):
        with contextlib.suppress(Refused, Unreachable):
            await joiner.join(mesh.invite_to(owner), deadline_s=60)
        async with asyncio.timeout(60):
            while joiner.peers() or not owner.refusals:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.01)
        assert owner.peers() == () and owner.refusals == {"revoked": 1}


async def test_who_is_revoked_while_the_issuer_is_asked_is_not_let_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with with_members(tmp_path, 1) as (founder, (member,)), founder.joins() as joiner:

        def save_and_revoke(standing: Standing) -> None:
            standing.belonging.save_tokens()
            member.revise(replace(member.site, revoked=frozenset({joiner.node})))

        monkeypatch.setattr(Standing, "save_redemption", save_and_revoke)
        with pytest.raises(Refused):
            await joiner.join(at(founder.invite(), member), deadline_s=60)
        assert joiner.node not in {peer.node for peer in member.peers()} and joiner.peers() == ()


# Renewing


async def test_the_owner_renews_a_member(tmp_path: Path) -> None:
    async with with_members(tmp_path, 1) as (founder, (member,)):
        renewed = await renewal(member, founder)
        assert renewed is not None and member.site.membership is not None
        assert renewed.verified(time.time()).serial != member.site.membership.verified(time.time()).serial


async def test_renewing_has_a_budget_for_each_peer(tmp_path: Path) -> None:
    async with with_members(tmp_path, 2) as (founder, (greedy, other)):
        for _ in range(renewals.EACH.burst):
            assert await renewal(greedy, founder) is not None
        with pytest.raises(Refused) as refused:
            await renewal(greedy, founder)
        assert refused.value.code is RefusalCode.BUSY
        assert await renewal(other, founder) is not None


async def test_nobody_renews_anothers_certificate(tmp_path: Path) -> None:
    async with with_members(tmp_path, 2) as (founder, (thief, other)):
        assert other.site.membership is not None
        renewing = Renewing(other.site.key, other.site.membership, frozenset(), time.time())
        answer = await ask(thief, founder.transport.node, RENEW, renewing.request(), MAX_MESSAGE_BYTES)
        with pytest.raises(Refused, match="another node's certificate"):
            renewing.receive(answer, founder.transport.node, time.time())


# Root keys


async def test_a_handshake_brings_news_of_a_new_root_key_to_the_end_that_dials(tmp_path: Path) -> None:
    async with founder_in(tmp_path) as founder:
        joiner = founder.joins()
        async with joiner:
            await joiner.join(founder.invite(), deadline_s=60)
        learned: list[Membership] = []
        site = joiner.site
        founder.standing.rotate_root()
        async with QuicTransport(site, LOOPBACK, QuicOptions(learn=learned.append)) as member:
            await connect(member, founder.transport)
        assert {membership.root_public for membership in learned} == {founder.standing.membership.root_public}


async def test_and_to_the_end_that_is_dialled(tmp_path: Path) -> None:
    async with founder_in(tmp_path) as founder, AsyncExitStack() as stack:
        invite = founder.invite(uses=2)
        sites = []
        for _ in range(2):
            async with founder.joins() as joiner:
                await joiner.join(invite, deadline_s=60)
                sites.append(joiner.site)
        founder.standing.rotate_root()
        knows = await stack.enter_async_context(start(sites[0]))
        assert knows.site.membership is not None
        knows.site = replace(knows.site, membership=knows.site.membership.under(founder.standing.roots))
        learned: list[Membership] = []
        options = QuicOptions(learn=learned.append)
        hears = await stack.enter_async_context(QuicTransport(sites[1], LOOPBACK, options))
        knows.keep(hears.node, hears.addresses)
        async with asyncio.timeout(60):
            while not learned:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.01)
        assert learned[0].root_public == founder.standing.membership.root_public


# Both connections and the bulk lane


async def over_the_lane(member: QuicTransport, owner: QuicTransport) -> tuple[Stream, Stream]:
    """Both ends of a stream on the bulk lane; on a loaded machine the first may have gone over QUIC instead."""
    async with asyncio.timeout(60):
        while True:
            here = await member.open(owner.node, HEADER, bulk=True)
            await here.send(message(b"over the lane"))
            there = await next_stream(owner)
            assert await there.receive() == message(b"over the lane")
            if owner.links()[0].carrier == "quic+bulk":
                return here, there


async def test_whoever_is_revoked_loses_the_bulk_lane_too() -> None:
    mesh = live_mesh()
    with_lanes = QuicOptions(bulk=True)
    async with (
        start(mesh.owner_now(), options=with_lanes) as owner,
        start(mesh.member_now(), options=with_lanes) as member,
    ):
        await connect(owner, member)
        here, there = await over_the_lane(member, owner)

        owner.revise(replace(owner.site, revoked=frozenset({member.node})))

        async with asyncio.timeout(60):
            for stream in (here, there):
                with pytest.raises(Unreachable):
                    await stream.receive()
        assert owner.peers() == ()
