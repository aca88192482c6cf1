"""What the link table has its carrier do, and for which of a link's two connections. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NewType

from transport.interface import Address, LinkChanged, NodeId

ConnectionId = NewType("ConnectionId", int)


class Slot(Enum):
    """What a connection is for. CONTROL: datagrams and small records.  DATA: all that could hold those up."""

    CONTROL = "control"
    DATA = "data"


DIAL_PROTOCOL = "dial/1"
"""A stream of it asks the end that dialled the control connection for a data connection. Nothing else is said."""

_CONTROL_PROTOCOLS = frozenset(("gossip/1", "join/1", "renew/1", "lease/1", "clock/1", DIAL_PROTOCOL))


def slot_for(protocol: str) -> Slot:
    """Which connection carries a stream of `protocol`."""
    return Slot.CONTROL if protocol in _CONTROL_PROTOCOLS else Slot.DATA


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to `node`; report `connected`, or `dial_failed`.

    in_hurry: somebody waits for a link that broke a moment ago, so try anew rather than wait for a lost packet's turn.
    """

    node: NodeId
    addresses: tuple[Address, ...]
    slot: Slot = Slot.CONTROL
    in_hurry: bool = False


@dataclass(frozen=True, slots=True)
class StopDialling:
    """Give up the dial in progress to `node`; report nothing."""

    node: NodeId
    slot: Slot = Slot.CONTROL


@dataclass(frozen=True, slots=True)
class AskToDial:
    """Ask the peer on this control connection to dial a data connection."""

    connection: ConnectionId


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask the peer for a sign of life at once; report `answered`, or `disconnected` within seconds."""

    connection: ConnectionId


@dataclass(frozen=True, slots=True)
class Close:
    """Close this connection at once; its streams fail. `disconnected` need not be reported."""

    connection: ConnectionId
    reason: str


@dataclass(frozen=True, slots=True)
class Retire:
    """Open nothing new on this connection and close it when its streams have ended."""

    connection: ConnectionId
    reason: str


Effect = Dial | StopDialling | AskToDial | Probe | Close | Retire | LinkChanged
