"""The frozen picture of the mesh that everything above gossip reads.

A view is never edited: a change makes a new one with a higher `version`. Facts are opaque bytes here;
`gossip.facts` types the ones every node publishes, `llm.offer` and `forms` type their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from transport.interface import Address, NodeId, Role


class Status(IntEnum):
    """A member's state; the value is its rank in a merge (SWIM §4.2, LEFT added)."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node as this node sees it now. facts: key → MessagePack value, signed by that node.

    rtt_ms: None for a node without a link.  known_for_s: how long it has been in this view.
    """

    node: NodeId
    name: str
    role: Role
    status: Status
    boot: int
    incarnation: int
    addresses: tuple[Address, ...]
    facts: Mapping[str, bytes]
    rtt_ms: float | None
    linked: bool
    known_for_s: float

    @property
    def is_usable(self) -> bool:
        """Whether new work may be sent there: alive, and not a client."""
        return self.status is Status.ALIVE and self.role is not Role.CLIENT


@dataclass(frozen=True, slots=True)
class View:
    """Every node this node knows, itself first, the rest ordered by NodeId."""

    version: int
    nodes: tuple[NodeView, ...]

    @property
    def me(self) -> NodeView:
        """The node that owns this view."""
        return self.nodes[0]

    def get(self, node: NodeId) -> NodeView | None:
        """The entry of `node`, or None when it is unknown."""
        return next((entry for entry in self.nodes if entry.node == node), None)
