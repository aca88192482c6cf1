"""A token that is no good: one clear line and exit 1 at the joiner, a counted refusal at the introducer."""

from __future__ import annotations

import asyncio
import base64
import os
import time

import pytest

from meshd.datadir import DataDir
from meshd.local_agents import LocalAgent, LocalAgents, last_lines
from transport.address import parse_address
from transport.certificate import Membership
from transport.identity import NodeKey
from transport.interface import Role
from transport.token_book import TokenBook

EXIT_TIMEOUT_S = 90


async def refused(agents: LocalAgents, token: str, *more: str) -> str:
    """Start a joiner that must fail; the one line it says, apart from the log's story of a node that starts."""
    log = agents.folder / "joiner.log"
    said_before = log.read_text() if log.exists() else ""
    async with agents.launched("joiner", ["--join", token, *more]) as joiner:
        status = await asyncio.wait_for(joiner.child.wait(), EXIT_TIMEOUT_S)
    said = log.read_text().removeprefix(said_before).splitlines()
    # Such as that somebody holds the TCP port of the number that the system gave us for UDP.
    lines = [line for line in said if " INFO " not in line]
    assert status == 1, lines
    assert len(lines) == 1, lines
    return lines[0]


async def counted(introducer: LocalAgent, refusal: str) -> None:
    """Wait until the introducer has counted exactly one refusal, and that for this reason."""
    await introducer.until(lambda status: status["refusals"] == {refusal: 1}, 60)


def edited(token: str) -> str:
    """The token with one bit of its payload flipped."""
    prefix, _, body = token.partition(":")
    raw = bytearray(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    raw[len(raw) // 3] ^= 1
    return f"{prefix}:{base64.urlsafe_b64encode(bytes(raw)).decode().rstrip('=')}"


async def test_what_is_no_token_is_told_before_anything_is_dialled(agents: LocalAgents) -> None:
    assert "not a meshd token" in await refused(agents, "hello")


async def test_an_edited_token_is_told_apart(agents: LocalAgents) -> None:
    async with agents.start("founder") as founder:
        line = await refused(agents, edited(await founder.token("member")))

    assert "this token" in line
    assert "meshd token create" in line


async def test_an_expired_token_is_refused_and_counted(agents: LocalAgents) -> None:
    async with agents.start("founder") as founder:
        token = (await founder.call("token_create", role="member", ttl_s=1, uses=1))["token"]
        async with asyncio.timeout(60):
            while (await founder.call("token_list"))["tokens"][0]["state"] != "expired":
                await asyncio.sleep(0.05)

        line = await refused(agents, token)

        assert "expired" in line
        await counted(founder, "token_expired")


async def test_a_spent_token_is_refused_and_counted(agents: LocalAgents) -> None:
    async with agents.start("founder") as founder:
        token = await founder.token("member")
        async with agents.start("first", ["--join", token]):
            line = await refused(agents, token)

        assert "used" in line
        await counted(founder, "token_spent")


async def test_a_revoked_token_is_refused_and_counted(agents: LocalAgents) -> None:
    async with agents.start("founder") as founder:
        token = await founder.token("member")
        (entry,) = [one for one in (await founder.call("token_list"))["tokens"] if one["state"] == "valid"][-1:]
        for one in (await founder.call("token_list"))["tokens"]:
            await founder.call("token_revoke", id=one["id"])

        line = await refused(agents, token)

        assert entry["state"] == "valid"
        assert "revoked" in line
        await counted(founder, "token_revoked")


async def test_a_client_token_admits_no_member(agents: LocalAgents) -> None:
    async with agents.start("founder") as founder:
        line = await refused(agents, await founder.token("client"))

        assert "--client" in line
        await counted(founder, "bad_proof")


async def test_a_token_of_another_mesh_is_refused_and_counted(agents: LocalAgents) -> None:
    async with agents.start("one"), agents.start("other") as other:
        line = await refused(agents, misdirected(agents, (await other.status())["doors"]["mesh"]))

        assert "another mesh" in line
        await counted(other, "wrong_mesh")


def misdirected(agents: LocalAgents, address: str) -> str:
    """A true token of mesh `one` that names the address of another mesh's node."""
    directory = DataDir(agents.folder / "one")
    seed, mesh = directory.read("node.key"), directory.read("mesh")
    assert seed is not None and mesh is not None
    book = TokenBook(NodeKey(seed), Membership.from_bytes(mesh), os.urandom(32))
    return book.create(Role.MEMBER, 600, 1, [parse_address(address)], time.time(), os.urandom)


async def test_a_node_of_one_mesh_does_not_join_another(agents: LocalAgents) -> None:
    async with agents.start("one") as one, agents.start("other") as other:
        async with agents.start("joiner", ["--join", await one.token("member")]):
            pass
        line = await refused(agents, await other.token("member"))

    assert "another mesh" in line
    assert "meshd leave" in line


async def test_without_a_token_a_client_is_told_what_it_needs(agents: LocalAgents) -> None:
    async with agents.launched("joiner", ["--client"]) as joiner:
        assert await asyncio.wait_for(joiner.child.wait(), EXIT_TIMEOUT_S) == 1

    assert "meshd --client --join TOKEN" in last_lines(joiner.log)


async def test_an_introducer_that_is_gone_is_named(agents: LocalAgents) -> None:
    async with agents.start("founder") as founder:
        token = await founder.token("member")

    line = await refused(agents, token)

    assert "127.0.0.1" in line


@pytest.mark.parametrize("times", [2])
async def test_a_token_of_several_uses_serves_as_many_nodes(agents: LocalAgents, times: int) -> None:
    async with agents.start("founder") as founder:
        token = await founder.token("member", uses=times)
        for number in range(times):
            async with agents.start(f"member-{number}", ["--join", token]):
                pass

        assert "used" in await refused(agents, token)
