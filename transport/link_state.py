"""What the link table keeps of each peer: the link's state, and the two connections that it may have. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from transport.interface import Address, LinkState, NodeId, Peer
from transport.link_effect import ConnectionId, Slot


@dataclass(slots=True)
class Live:
    """A connection that serves now."""

    number: ConnectionId
    peer: Peer
    is_dialled_here: bool
    since: float


@dataclass(slots=True)
class Line:
    """One slot of a link: the connection in it, and how it comes by the next.

    was_dialled_here: of the last connection, None before there was one.
    """

    slot: Slot
    was_dialled_here: bool | None = None
    live: Live | None = None
    is_dialling: bool = False
    failures: int = 0
    dial_at: float | None = None


@dataclass(slots=True)
class PeerLink:
    """What is known of one peer's link. times are on the caller's monotonic clock."""

    node: NodeId
    state: LinkState
    is_kept: bool
    lost_at: float | None
    addresses: tuple[Address, ...] = ()
    peer: Peer | None = None
    address: Address | None = None
    control: Line = field(default_factory=lambda: Line(Slot.CONTROL))
    data: Line = field(default_factory=lambda: Line(Slot.DATA))

    @property
    def is_in_hurry(self) -> bool:
        """Whether it was up until a moment ago."""
        return self.state is LinkState.RECONNECTING and self.control.was_dialled_here is not None

    def line(self, slot: Slot) -> Line:
        return self.control if slot is Slot.CONTROL else self.data

    @property
    def lines(self) -> tuple[Line, Line]:
        return self.control, self.data

    def line_of(self, number: ConnectionId) -> Line | None:
        """The slot that this connection serves now."""
        return next((line for line in self.lines if line.live is not None and line.live.number == number), None)
