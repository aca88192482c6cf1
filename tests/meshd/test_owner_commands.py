"""What the control door does for the owner of a mesh, and when it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gossip.view import View
from meshd.control import CommandFailed
from meshd.owner_commands import OwnerCommands
from meshd.standing import Standing
from tests.meshd.standings import NOW, Desk, founder_at, member_at
from tests.meshd.test_status import HOST, LAPTOP, node
from tests.transport.quic_mesh import LOOPBACK
from transport.identity import node_text
from transport.interface import Role
from transport.quic import QuicOptions, QuicTransport


@dataclass
class Door:
    """The commands of one node whose mesh has a host and a laptop in it."""

    standing: Standing
    commands: OwnerCommands

    async def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        return await self.commands.table()[name](arguments)


def transport_of(desk: Desk, role: Role) -> QuicTransport:
    site = desk.standing.belonging.site("name", 1, role, NOW)
    return QuicTransport(site, LOOPBACK, QuicOptions(unix_time=desk.clock))


def door(desk: Desk, transport: QuicTransport) -> Door:
    me = replace(node(desk.standing.belonging.key.node, "me"), role=Role.OWNER)
    view = View(1, (me, node(HOST, "host"), node(LAPTOP, "laptop", role=Role.CLIENT)))
    return Door(desk.standing, OwnerCommands(desk.standing, transport, lambda: view))


@pytest.fixture
async def owner(tmp_path: Path) -> AsyncIterator[Door]:
    desk = founder_at(tmp_path)
    async with transport_of(desk, Role.OWNER) as transport:
        yield door(desk, transport)


async def test_a_node_is_revoked_by_name_and_shut_out(owner: Door) -> None:
    answer = await owner.call("revoke", node="host")
    assert answer == {"node": node_text(HOST), "version": 1, "disconnected": []}
    assert HOST in owner.standing.revoked
    assert (await owner.call("revoke", node=node_text(LAPTOP)))["version"] == 2
    with pytest.raises(CommandFailed, match="revoked already"):
        await owner.call("revoke", node="host")


@pytest.mark.parametrize("command", ["revoke", "delegate"])
@pytest.mark.parametrize("named", ["nobody", "", None, 7])
async def test_a_node_that_nobody_knows_is_explained(owner: Door, command: str, named: object) -> None:
    with pytest.raises(CommandFailed, match="meshd status"):
        await owner.call(command, node=named)
    assert owner.standing.revoked == frozenset() and owner.standing.belonging.delegates is None


async def test_an_owner_does_not_revoke_itself(owner: Door) -> None:
    with pytest.raises(CommandFailed, match="this node itself"):
        await owner.call("revoke", node="me")


async def test_a_member_is_made_a_delegate_and_no_delegate_again(owner: Door) -> None:
    assert (await owner.call("delegate", node="host"))["delegates"] == [node_text(HOST)]
    assert owner.standing.belonging.delegates == frozenset({HOST})
    assert (await owner.call("delegate", node="host", may_invite=False))["delegates"] == []
    with pytest.raises(CommandFailed, match="is no delegate"):
        await owner.call("delegate", node="host", may_invite=False)


async def test_neither_clients_nor_owners_are_made_delegates(owner: Door) -> None:
    with pytest.raises(CommandFailed, match="laptop is a client"):
        await owner.call("delegate", node="laptop")
    with pytest.raises(CommandFailed, match="may invite already"):
        await owner.call("delegate", node="me")


async def test_the_root_key_is_replaced_and_the_old_one_counts_for_a_while(owner: Door) -> None:
    before = owner.standing.membership.root_public
    answer = await owner.call("rotate_root")
    assert owner.standing.membership.root_public != before
    assert answer["old_root_counts_until"] == int(NOW) + 30 * 86400


async def test_nobody_else_may_do_any_of_it(tmp_path: Path) -> None:
    founder = founder_at(tmp_path / "founder")
    member = member_at(tmp_path / "member", founder, may_invite=True)
    async with transport_of(member, Role.MEMBER) as transport:
        for command in ("revoke", "delegate", "rotate_root"):
            with pytest.raises(CommandFailed, match="on the founder"):
                await door(member, transport).call(command, node="host")
