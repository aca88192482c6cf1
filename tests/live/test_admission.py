"""Belonging to a mesh while it goes on: joining through others, delegates, revocation, another root key."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any

import aiohttp
import msgspec
import pytest

from meshd.control import CommandFailed
from meshd.datadir import DataDir
from meshd.local_agents import LocalAgent, LocalAgents
from tests.live.test_join_refused import counted, refused
from tests.live.toy import HOUR, LONG_ANSWER, SERVES_TOY, api_of, chat
from transport.identity import NodeKey
from transport.invite import format_token, parse_token

SOON_S = 60.0


async def until_they_meet(*agents: LocalAgent) -> None:
    """Wait until each sees all others alive."""
    names = {agent.name for agent in agents}
    for agent in agents:
        others = names - {agent.name}
        await agent.until(lambda status, others=others: others <= alive(status), SOON_S)  # type: ignore[misc]


def alive(status: dict[str, Any]) -> set[str]:
    return {peer["name"] for peer in status["peers"] if peer["state"] == "alive"}


async def entering_at(token: str, issuer: LocalAgent, introducer: LocalAgent) -> str:
    """The token, with no other address than the introducer's: signed anew with its issuer's key."""
    seed = DataDir(issuer.directory).read("node.key")
    assert seed is not None
    door = (await introducer.status())["doors"]["mesh"]
    return format_token(msgspec.structs.replace(parse_token(token), address_texts=(door,)), NodeKey(seed))


async def uses_left(issuer: LocalAgent, token: str) -> int:
    tokens = (await issuer.call("token_list"))["tokens"]
    return int(next(entry["uses_left"] for entry in tokens if entry["id"] == parse_token(token).token_id.hex()))


async def leave(agent: LocalAgent) -> None:
    await agent.call("leave", force=True)
    await asyncio.wait_for(agent.child.wait(), SOON_S)


# Through a member that is not the issuer


async def test_a_node_joins_through_a_member_that_did_not_make_the_token(agents: LocalAgents) -> None:
    async with agents.start("founder") as founder:
        async with agents.start("member", ["--join", await founder.token("member")]) as member:
            await until_they_meet(founder, member)
            token = await entering_at(await founder.token("member"), founder, member)
            async with agents.start("guest", ["--join", token]) as guest:
                await until_they_meet(founder, member, guest)
                assert await uses_left(founder, token) == 0

                line = await refused(agents, token)

                assert "used once" in line
                await counted(member, "token_spent")
                assert (await founder.status())["refusals"] == {}


async def test_a_member_says_whose_token_it_cannot_redeem(agents: LocalAgents) -> None:
    async with agents.start("founder") as founder:
        async with agents.start("member", ["--join", await founder.token("member")]) as member:
            await until_they_meet(founder, member)
            token = await entering_at(await founder.token("member"), founder, member)
            assert await asyncio.to_thread(founder.control.call, "leave", force=True)
            await founder.child.wait()

            line = await refused(agents, token)

            assert "cannot be reached now" in line
            await counted(member, "not_issuer")


async def test_a_token_names_members_beside_its_issuer(agents: LocalAgents) -> None:
    async with agents.start("founder") as founder:
        async with agents.start("member", ["--join", await founder.token("member")]) as member:
            await until_they_meet(founder, member)
            named = parse_token(await founder.token("member")).address_texts
            doors = [(await agent.status())["doors"]["mesh"] for agent in (founder, member)]
    assert list(named) == doors


# Delegates


async def test_a_delegate_invites_while_the_founder_is_away(agents: LocalAgents) -> None:
    async with agents.start("founder") as founder:
        async with agents.start("deputy", ["--join", await founder.token("member")]) as deputy:
            await until_they_meet(founder, deputy)
            with pytest.raises(CommandFailed, match="meshd mesh delegate"):
                await deputy.token("member")

            answer = await founder.call("delegate", node="deputy")
            assert answer["may_invite"] and answer["delegates"] == [answer["node"]]
            token = await until_it_may_invite(deputy)
            await leave(founder)

            async with agents.start("joiner", ["--join", token]) as joiner:
                await until_they_meet(deputy, joiner)


async def until_it_may_invite(agent: LocalAgent) -> str:
    deadline = time.monotonic() + SOON_S
    while True:
        try:
            return await agent.token("member")
        except CommandFailed:
            assert time.monotonic() < deadline, "it never became a delegate"
            await asyncio.sleep(0.1)


async def test_a_delegate_loses_the_right_and_whom_it_invited_stays(agents: LocalAgents) -> None:
    async with agents.start("founder") as founder:
        async with agents.start("deputy", ["--join", await founder.token("member")]) as deputy:
            await until_they_meet(founder, deputy)
            await founder.call("delegate", node="deputy")
            token = await until_it_may_invite(deputy)
            async with agents.start("guest", ["--join", token]) as guest:
                await until_they_meet(founder, deputy, guest)
                await founder.call("delegate", node="deputy", may_invite=False)
                deadline = time.monotonic() + SOON_S
                with pytest.raises(CommandFailed, match="may not invite"):
                    while time.monotonic() < deadline:
                        await deputy.token("member")
                        await asyncio.sleep(0.1)
                await until_they_meet(founder, deputy, guest)


async def test_only_the_owner_delegates_revokes_and_rotates(agents: LocalAgents) -> None:
    async with agents.start("founder") as founder:
        async with agents.start("member", ["--join", await founder.token("member")]) as member:
            await until_they_meet(founder, member)
            for command in ("delegate", "revoke", "rotate_root"):
                with pytest.raises(CommandFailed, match="on the founder"):
                    await member.call(command, node="founder")
            for command in ("delegate", "revoke"):
                with pytest.raises(CommandFailed, match="no node here is called 'nobody'"):
                    await founder.call(command, node="nobody")
            with pytest.raises(CommandFailed, match="this node itself"):
                await founder.call("revoke", node="founder")
            with pytest.raises(CommandFailed, match="only a member"):
                await founder.call("delegate", node="founder")


# Revocation


async def test_a_node_revoked_mid_answer_loses_its_stream_and_its_mesh(agents: LocalAgents) -> None:
    async with agents.start("founder", SERVES_TOY) as founder:
        joins = ["--join", await founder.token("member", uses=2)]
        async with agents.start("outcast", joins) as outcast, agents.start("friend", joins) as friend:
            api = await api_of(outcast)
            await until_they_meet(founder, outcast, friend)
            async with aiohttp.ClientSession(timeout=HOUR) as session:
                async with session.post(f"{api}/v1/chat/completions", json=chat("Tell", **LONG_ANSWER)) as response:
                    await anext(aiter(response.content))
                    answer = await founder.call("revoke", node="outcast")
                    revoked = time.monotonic()
                    lines = [line async for line in response.content if line.strip()]
            assert time.monotonic() - revoked < SOON_S
            assert json.loads(lines[-1].removeprefix(b"data: "))["error"]["message"]
            assert answer["disconnected"] == [answer["node"]]

            await friend.until(lambda status: not listed(status, "outcast"), SOON_S)
            await founder.until(lambda status: not listed(status, "outcast"), SOON_S)
            await outcast.until(lambda status: not alive(status), SOON_S)
            with pytest.raises(CommandFailed, match="revoked already"):
                await founder.call("revoke", node=answer["node"])

        async with agents.start("friend") as friend:
            await until_they_meet(founder, friend)
            async with agents.start("outcast") as outcast:
                await founder.until(lambda status: status["refusals"].get("revoked", 0) > 0, SOON_S)
                assert not alive(await outcast.status())
                assert not listed(await friend.status(), "outcast")


def listed(status: dict[str, Any], name: str) -> bool:
    return any(entry["name"] == name for entry in [*status["peers"], *status["links"]])


async def test_a_revocation_holds_after_the_founder_has_gone(agents: LocalAgents) -> None:
    """Members pass the list on: who comes back without it hears of it from them."""
    async with contextlib.AsyncExitStack() as stack:
        founder = await stack.enter_async_context(agents.start("founder"))
        joins = ["--join", await founder.token("member", uses=3)]
        friend = await stack.enter_async_context(agents.start("friend", joins))
        async with agents.start("away", joins) as away, agents.start("outcast", joins) as outcast:
            await until_they_meet(founder, away, friend, outcast)
            await founder.call("revoke", node="outcast")
            for agent in (friend, away):
                await agent.until(lambda status: not listed(status, "outcast"), SOON_S)
        kept = agents.folder / "away" / "revoked"
        kept.unlink()
        await leave(founder)

        away = await stack.enter_async_context(agents.start("away"))
        await until_they_meet(friend, away)

        deadline = time.monotonic() + SOON_S
        while not kept.exists():
            assert time.monotonic() < deadline, "the list was never passed on"
            await asyncio.sleep(0.1)


# Another root key


async def test_a_new_root_key_reaches_all_and_an_old_token_still_works(agents: LocalAgents) -> None:
    async with contextlib.AsyncExitStack() as stack:
        first_start = await stack.enter_async_context(contextlib.AsyncExitStack())
        founder = await first_start.enter_async_context(agents.start("founder"))
        joins = ["--join", await founder.token("member", uses=2)]
        async with agents.start("absent", joins) as absent:
            await until_they_meet(founder, absent)
        old = await founder.token("member")
        member = await stack.enter_async_context(agents.start("member", joins))
        await until_they_meet(founder, member)
        root, certificate = papers_on_disk(member)

        answer = await founder.call("rotate_root")
        assert answer["old_root_counts_until"] > time.time() + 29 * 86400

        deadline = time.monotonic() + SOON_S
        while papers_on_disk(member)[0] == root or papers_on_disk(member)[1] == certificate:
            assert time.monotonic() < deadline, "the member did not renew under the new root key"
            await asyncio.sleep(0.1)
        async with agents.start("late", ["--join", old]) as late:
            await until_they_meet(founder, member, late)
        async with agents.start("absent") as absent:
            await until_they_meet(founder, member, absent)
        async with agents.start("new", ["--join", await founder.token("member")]) as new:
            await until_they_meet(founder, member, new)
        await first_start.aclose()

        founder = await stack.enter_async_context(agents.start("founder"))
        await until_they_meet(founder, member)
        assert await founder.call("rotate_root") != answer


def papers_on_disk(agent: LocalAgent) -> tuple[bytes, bytes]:
    """The root key it goes by, and its certificate."""
    kept = msgspec.msgpack.decode((agent.directory / "mesh").read_bytes())
    return kept["root_public"], kept["certificate"]
