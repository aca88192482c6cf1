"""What nodes pass on of their mesh itself, as facts: its root keys, its revocation list, its owner's delegates.

The first two prove themselves, so anybody may tell them. The owner always does; of the others three are enough,
those with the lowest ids. So the mesh still knows when the owner has gone, and does not hold a copy for each member.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from gossip.message import MAX_FACT_BYTES
from gossip.view import NodeView, View
from transport import wire
from transport.errors import ProtocolError
from transport.interface import NodeId, Role
from transport.rotation import Successions

ROOTS_FACT = "roots"
REVOKED_FACT = "revoked"
DELEGATES_FACT = "delegates"
MAX_DELEGATES = 1024
"""As many as a mesh may have members."""

KEEPERS = 3


class RootsFact(msgspec.Struct, frozen=True):
    """The fact `roots`: how the root key in office came there, oldest succession first."""

    successions: Successions


class DelegatesFact(msgspec.Struct, frozen=True):
    """The fact `delegates`, which only the owner's word makes true: who may invite."""

    nodes: Annotated[tuple[wire.Bytes32, ...], msgspec.Meta(max_length=MAX_DELEGATES)]


def encode_roots(successions: Successions) -> bytes:
    return wire.encode(RootsFact(successions))


def read_roots(value: bytes, teller: NodeId) -> Successions:
    """Raises ProtocolError."""
    return wire.decode(value, RootsFact, peer=teller, max_bytes=MAX_FACT_BYTES).successions


def encode_delegates(delegates: Iterable[NodeId]) -> bytes:
    return wire.encode(DelegatesFact(tuple(sorted(delegates))))


def read_delegates(value: bytes, teller: NodeId | None, source: str = "") -> frozenset[NodeId]:
    """Raises ProtocolError."""
    fact = wire.decode(
        value, DelegatesFact, peer=teller, max_bytes=MAX_FACT_BYTES, max_items=MAX_DELEGATES, source=source
    )
    return frozenset(NodeId(node) for node in fact.nodes)


def is_delegate(view: View, node: NodeId) -> bool | None:
    """Whether the owner lets `node` invite; None while no owner says anything about it."""
    said = [_said_delegates(entry) for entry in view.nodes if entry.role is Role.OWNER]
    lists = [nodes for nodes in said if nodes is not None]
    return any(node in nodes for nodes in lists) if lists else None


def is_keeper(view: View, key: str, value: bytes) -> bool:
    """Whether this node is to tell `value`: as one of the first three, or because nobody else does."""
    others = [entry for entry in view.nodes[1:] if entry.is_usable]
    is_early = sum(entry.node < view.me.node for entry in others) < KEEPERS
    return is_early or all(entry.facts.get(key) != value for entry in others)


def _said_delegates(owner: NodeView) -> frozenset[NodeId] | None:
    value = owner.facts.get(DELEGATES_FACT)
    if value is None:
        return None
    try:
        return read_delegates(value, owner.node)
    except ProtocolError:
        return None
