"""What every carrier offers the layers above: links to proved peers, streams of records, datagrams.

`quic` and `memory` implement `Transport`; nothing above `meshd.agent` names either. One contract
suite (tests/transport/contract.py) holds them to the words written here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Annotated, NewType, Protocol

import msgspec

from transport.errors import ResetCode

NodeId = NewType("NodeId", bytes)
"""SHA-256 of a node's raw Ed25519 public key, 32 bytes. Shown by `transport.identity.node_text`."""

MAX_RECORD_BYTES = 1 << 20
MAX_DATAGRAM_BYTES = 1100
"""Larger DATAGRAM frames wedge aioquic's send queue for good (measured: 1,170 B on a 1,200 B path)."""

BULK_FROM_BYTES = 32 << 10
"""What is larger is worth a bulk stream: an open lane takes half as long at most (`python -m bench.carriers`), and
opening one, as long as ten such calls take, is done once for each pair of nodes."""


class Role(Enum):
    """What a member certificate lets its node do."""

    OWNER = "owner"
    MEMBER = "member"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a node's UDP socket answers. `host` is an IP literal or a name, without brackets."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Peer:
    """A node that has proved its identity on a live connection.

    boot: grows with every start of that node.  certificate: its encoded membership certificate.
    """

    node: NodeId
    role: Role
    boot: int
    name: str
    certificate: bytes


class RecordKind(IntEnum):
    """The byte between a record's length and its payload. Users of a stream see MESSAGE and DATA only.

    FINISH: the sender will send no more of those two; it still sends CREDIT for what comes back.
    """

    OPEN = 1
    MESSAGE = 2
    DATA = 3
    CREDIT = 4
    FINISH = 5


@dataclass(frozen=True, slots=True)
class Record:
    """One unit of a stream: a MessagePack message or raw bytes, at most `MAX_RECORD_BYTES`."""

    kind: RecordKind
    payload: bytes


class StreamHeader(msgspec.Struct, frozen=True):
    """First record of every stream: which protocol it speaks, for which request, and for how long.

    deadline_ms: what is left of the opener's budget when it opens; 0 means none was set.
    """

    protocol: Annotated[str, msgspec.Meta(max_length=64)]
    request_id: Annotated[str, msgspec.Meta(max_length=128)]
    deadline_ms: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)] = 0


class Stream(Protocol):
    """Records both ways with one peer, in order, under the receiver's credit.

    Sending past the peer's credit waits. When the connection is lost, every pending and later call
    raises `Unreachable`. When the peer resets, they raise `StreamReset`; after our own `reset` too. When the
    peer breaks the protocol, `ProtocolError`. What the peer had sent and finished stays readable after a loss and
    after its own reset. A stream holds memory at both ends until it is finished both ways or reset: do one of them.
    """

    @property
    def peer(self) -> Peer: ...

    @property
    def header(self) -> StreamHeader: ...

    async def send(self, record: Record) -> None:
        """Queue one MESSAGE or DATA record, waiting for credit.

        Raises StreamReset, Unreachable, ProtocolError; ValueError when too large or of another kind;
        RuntimeError after `finish`.
        """

    async def receive(self) -> Record | None:
        """The next record, or None once the peer has finished. Taking it grants the peer new credit. One consumer."""

    async def finish(self) -> None:
        """Say that nothing more will be sent (FIN). The other direction stays open."""

    def reset(self, code: ResetCode) -> None:
        """Abandon both directions with `code`. Safe to call at any time, also twice; never waits."""


class LinkState(Enum):
    """A kept peer's link. RECONNECTING lasts at most 10 s, then LOST; dialling goes on with back-off."""

    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """The state of the link with a peer changed. `peer` is None until the first connection."""

    node: NodeId
    state: LinkState
    peer: Peer | None
    address: Address | None
    reason: str


@dataclass(frozen=True, slots=True)
class DatagramReceived:
    """One unreliable message of at most `MAX_DATAGRAM_BYTES` from an admitted peer."""

    node: NodeId
    payload: bytes


TransportEvent = LinkChanged | DatagramReceived


@dataclass(frozen=True, slots=True)
class Link:
    """Snapshot of one link, for status and ranking.

    rtt_ms: smoothed round trip, None before the first sample.  carrier: "quic" | "quic+bulk" | "memory".
    """

    node: NodeId
    role: Role
    name: str
    state: LinkState
    address: Address | None
    carrier: str
    rtt_ms: float | None
    bytes_sent: int
    bytes_received: int


class Links(Protocol):
    """The state of every link, for whatever outlives a connection."""

    def state(self, node: NodeId) -> LinkState | None:
        """None for a node that was never connected or kept, or was forgotten since."""

    async def changed(self) -> None:
        """Wait for the next change of any link after this call. Bring your own deadline."""


class Transport(Protocol):
    """Links to every peer we want, on one local endpoint. Use as `async with` by the agent."""

    @property
    def node(self) -> NodeId: ...

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where peers can reach this endpoint, most useful first."""

    @property
    def refusals(self) -> dict[str, int]:
        """How many handshakes were refused here, by `RefusalCode` value."""

    @property
    def board(self) -> Links:
        """Where any number of others follow the links: `events` has one consumer."""

    def links(self) -> tuple[Link, ...]:
        """Every kept or connected peer, ordered by NodeId."""

    def keep(self, node: NodeId, addresses: tuple[Address, ...]) -> None:
        """Hold a link to `node`: dial by the dial rule, again with back-off when it breaks."""

    def drop(self, node: NodeId, reason: str) -> None:
        """Stop holding a link to `node` and close any connection with it."""

    def doubt(self, node: NodeId, reason: str) -> None:
        """Say that a connected peer seems dead: it counts as RECONNECTING until it has answered."""

    async def open(self, node: NodeId, header: StreamHeader, *, bulk: bool = False) -> Stream:
        """Open a stream to a connected peer. Raises Unreachable at once when there is no connection.

        All but the small records of the mesh itself share a connection beside the one that carries datagrams.
        The first stream makes it, and waits for that at most 5 s (TimedOut, Unreachable).

        bulk: more than `BULK_FROM_BYTES` will pass, either way. Such a stream goes over a faster carrier where there is
        one, and may wait a moment for it; it may also break while the link stays connected, so that opening it again
        is worth a try. Otherwise it is a stream like any other.
        """

    def send_datagram(self, node: NodeId, payload: bytes) -> bool:
        """Send unreliably; False when there is no connection. ValueError past `MAX_DATAGRAM_BYTES`."""

    def streams(self) -> AsyncIterator[Stream]:
        """Streams that peers opened, each after its header arrived. One consumer."""

    def events(self) -> AsyncIterator[TransportEvent]:
        """Link changes (never dropped) and datagrams (dropped oldest first when not taken). One consumer."""
