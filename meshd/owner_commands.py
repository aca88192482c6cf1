"""What only the owner of a mesh can ask of the control door: another root key, delegates, revocations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gossip.view import View
from meshd.control import Command, CommandFailed
from meshd.mesh_facts import MAX_DELEGATES
from meshd.naming import UnknownNode, find_node, find_node_id
from meshd.standing import Doorkeeper, Standing
from transport.errors import Refused
from transport.identity import node_id, node_text, short
from transport.interface import NodeId, Role
from transport.revocation import Names, fallen


@dataclass(frozen=True, slots=True)
class OwnerCommands:
    """view: the mesh as it is now, by which people name nodes."""

    standing: Standing
    transport: Doorkeeper
    view: Callable[[], View]

    def table(self) -> dict[str, Command]:
        """Every command by its name."""
        return {"rotate_root": self._rotate_root, "delegate": self._delegate, "revoke": self._revoke}

    async def _rotate_root(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._check_owner()
        try:
            self.standing.rotate_root()
        except (OSError, Refused) as error:
            raise CommandFailed(f"the root key was not replaced: {error}") from error
        membership = self.standing.membership
        link = membership.roots().links[-1]
        return {"root": short(node_id(membership.root_public)), "old_root_counts_until": link.window_ends}

    async def _delegate(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._check_owner()
        may_invite = arguments.get("may_invite", True) is True
        named = self.standing.belonging.delegates or frozenset()
        node = self._node(arguments)
        if may_invite:
            self._check_member(node)
            named |= {node}
        elif node not in named:
            raise CommandFailed(f"node {short(node)} is no delegate")
        else:
            named -= {node}
        if len(named) > MAX_DELEGATES:
            raise CommandFailed(f"a mesh has at most {MAX_DELEGATES} delegates; take the right from another first")
        try:
            self.standing.name_delegates(named)
        except OSError as error:
            raise CommandFailed(f"cannot keep who the delegates are: {error}") from error
        return {"node": node_text(node), "may_invite": may_invite, "delegates": sorted(map(node_text, named))}

    async def _revoke(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._check_owner()
        node = self._node(arguments)
        if node == self.standing.belonging.key.node:
            raise CommandFailed("that is this node itself, the owner of the mesh: revoke others, or `meshd leave`")
        if node in self.standing.revoked:
            raise CommandFailed(f"node {short(node)} is revoked already")
        before = self.transport.peers()
        try:
            listed = self.standing.revoke(Names(nodes=frozenset({node})))
        except ValueError as error:
            raise CommandFailed(str(error)) from error
        closed = sorted(map(node_text, fallen(before, listed.names.every)))
        return {"node": node_text(node), "version": listed.version, "disconnected": closed}

    def _check_owner(self) -> None:
        if not self.standing.belonging.holds_root:
            raise CommandFailed("this node does not hold the mesh's root key: run this on the founder of the mesh")

    def _node(self, arguments: dict[str, Any]) -> NodeId:
        text = arguments.get("node")
        try:
            return find_node_id(text if isinstance(text, str) else "", self.view())
        except UnknownNode as error:
            raise CommandFailed(str(error)) from error

    def _check_member(self, node: NodeId) -> None:
        """A delegate has to be a member that is known here, because its role decides."""
        try:
            found = find_node(node_text(node), self.view())
        except UnknownNode as error:
            raise CommandFailed(str(error)) from error
        if found.role is not Role.MEMBER:
            raise CommandFailed(f"{found.name} is {_with_article(found.role)}; only a member can be made a delegate")


def _with_article(role: Role) -> str:
    return "an owner, who may invite already" if role is Role.OWNER else f"a {role.value}"
