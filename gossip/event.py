"""What the engine is told, and what it wants done. The engine does nothing itself."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from transport.interface import Address, NodeId, Peer


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; due at `Engine.next_deadline`."""


class Received(msgspec.Struct, frozen=True):
    """A datagram came from a connected peer. A struct, as `SendDatagram`: these two outnumber all others by far."""

    peer: NodeId
    payload: bytes


@dataclass(frozen=True, slots=True)
class ReliableReceived:
    """A message came on a `gossip/1` stream. `Reply` effects belong on that same stream.

    peer: as the stream proves it, since a stream may arrive before word of its link does.
    """

    peer: Peer
    payload: bytes


@dataclass(frozen=True, slots=True)
class Connected:
    """A peer has proved itself on a connection, the first or a new one."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection with a peer is gone. is_final: the transport no longer expects it back soon."""

    node: NodeId
    reason: str
    is_final: bool


@dataclass(frozen=True, slots=True)
class LocalUpdate:
    """This node says something about itself.

    is_urgent: not to be merged with the next update.  is_quiet: not worth a rumour; whoever compares notes sees it.
    """

    key: str
    value: bytes
    is_urgent: bool = False
    is_quiet: bool = False


@dataclass(frozen=True, slots=True)
class Hint:
    """Something that used `node` failed, so it may be gone."""

    node: NodeId
    reason: str


@dataclass(frozen=True, slots=True)
class Seed:
    """A place where a node of this mesh may be found: from a join, or from the address book."""

    node: NodeId
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Moved:
    """This node is now to be found elsewhere."""

    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Recertified:
    """This node has a newer membership certificate."""

    certificate: bytes
    serial: bytes


@dataclass(frozen=True, slots=True)
class Recheck:
    """Somebody was revoked."""


@dataclass(frozen=True, slots=True)
class Leave:
    """This node is about to stop for good."""


Event = (
    Tick
    | Received
    | ReliableReceived
    | Connected
    | Disconnected
    | LocalUpdate
    | Hint
    | Seed
    | Moved
    | Recertified
    | Recheck
    | Leave
)


class SendDatagram(msgspec.Struct, frozen=True):
    """Send, and do not care. At most `MAX_DATAGRAM_BYTES`."""

    peer: NodeId
    payload: bytes


@dataclass(frozen=True, slots=True)
class SendReliable:
    """Open a `gossip/1` stream, send this, and feed back what is answered."""

    peer: NodeId
    payload: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer on the stream whose message is being handled."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Keep:
    """Hold a link to `node`, dialling these addresses."""

    node: NodeId
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Drop:
    """Stop holding a link to `node`."""

    node: NodeId
    reason: str


@dataclass(frozen=True, slots=True)
class Doubt:
    """`node` counts as dead though its connection looks open: try a new one."""

    node: NodeId
    reason: str


@dataclass(frozen=True, slots=True)
class Notify:
    """The view changed."""


@dataclass(frozen=True, slots=True)
class Persist:
    """Remember where nodes of this mesh are found, instead of what was remembered before."""

    addresses: tuple[tuple[NodeId, tuple[Address, ...]], ...]


@dataclass(frozen=True, slots=True)
class RaiseBoot:
    """This node had a later life than its boot file knew; the next start must exceed `boot`."""

    boot: int


Effect = SendDatagram | SendReliable | Reply | Keep | Drop | Doubt | Notify | Persist | RaiseBoot
