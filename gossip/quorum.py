"""Whether a majority of the mesh's members grants a host its claim: only where somebody asked for that.

Usually availability matters more than uniqueness. A resource that is configured so is used by its host only while more
than half of all members, itself among them, have granted it a lease to vote. Members that are dead count too, for a
part of the mesh must not become a majority by giving up the rest; those that have left for good do not.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from gossip.view import NodeView, Status, View
from transport.interface import NodeId, Role

MIN_MEMBERS = 3
"""Of two, neither is a majority without the other: the first to fail would end it for both."""


@dataclass(frozen=True, slots=True)
class Quorum:
    """members: all that count.  granted: how many of them agree now, the host included if its own vote is."""

    members: int
    granted: int

    @property
    def needed(self) -> int:
        return self.members // 2 + 1

    @property
    def is_reached(self) -> bool:
        return self.members >= MIN_MEMBERS and self.granted >= self.needed


def voters(view: View) -> list[NodeId]:
    """The members whose leave a host wants, itself not among them: all but clients and those that left."""
    return [node.node for node in view.nodes[1:] if _votes(node)]


def quorum(view: View, granted_by: Collection[NodeId], *, has_own_vote: bool) -> Quorum:
    """How a claim of this view's owner stands. granted_by: whose leases to vote it may use at this moment.

    has_own_vote: whether no other host may still be using this node's (`Grants.has_own_vote`). A host that has not
    heard that it lost may have granted it to its successor, and both would count it.
    """
    others = voters(view)
    return Quorum(len(others) + 1, sum(node in granted_by for node in others) + has_own_vote)


def _votes(node: NodeView) -> bool:
    return node.role is not Role.CLIENT and node.status is not Status.LEFT
