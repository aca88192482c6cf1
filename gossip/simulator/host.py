"""A simulated machine: what is on its disk, what runs on it, and how badly it is doing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from gossip.engine import Engine
from gossip.event import Event
from gossip.member import LocalNode
from gossip.simulator.agenda import Action
from transport.interface import Address, NodeId, Peer, Role
from transport.link import LinkTable
from transport.link_effect import ConnectionId, Slot

MAX_WAITING = 1024
"""Packets that a socket holds for a process that does not read; the rest is lost."""

NEVER = float("inf")
Places = tuple[tuple[NodeId, tuple[Address, ...]], ...]
OnReply = Callable[[bytes], object]


@dataclass(slots=True, eq=False)
class Disk:
    """What outlives a process. boot: 0 where no boot file is.  book: its address book.

    fences, tokens: those files as they were last written, empty where there is none.
    """

    boot: int = 0
    book: Places = ()
    fences: bytes = b""
    tokens: bytes = b""


@dataclass(slots=True, eq=False)
class Dialling:
    """A dial in progress at one process. is_over: it succeeded, failed or was given up."""

    is_over: bool = False


@dataclass(slots=True, eq=False)
class WireEnd:
    """What one process holds of a connection. far: the other end, which learns of this one only by what arrives.

    unanswered_since: something sent still waits for any answer.
    """

    process: Process
    number: ConnectionId
    wire: Wire
    is_open: bool = True
    is_retired: bool = False
    unanswered_since: float | None = None
    far: WireEnd | None = None


@dataclass(slots=True, eq=False)
class Wire:
    """A connection. exchanges: how many are under way on it."""

    slot: Slot
    exchanges: int = 0


@dataclass(slots=True, eq=False)
class Process:
    """One life of a node: its deciders, and what the world holds for them.

    routes: the open ends that datagrams go by, as far as they have been looked up since the links last changed.
    as_peer: who it proves to be on its connections.
    """

    host: Host
    me: LocalNode
    engine: Engine
    links: LinkTable
    started_at: float
    is_running: bool = True
    has_left: bool = False
    inbox: deque[tuple[Event, OnReply | None]] = field(default_factory=deque)
    is_handling: bool = False
    tick_at: float = NEVER
    wake_at: float = NEVER
    wires: dict[ConnectionId, WireEnd] = field(default_factory=dict)
    dials: dict[tuple[NodeId, Slot], Dialling] = field(default_factory=dict)
    routes: dict[NodeId, WireEnd] = field(default_factory=dict)
    exchanges: int = 0
    node: NodeId = field(init=False)
    as_peer: Peer = field(init=False)

    def __post_init__(self) -> None:
        me = self.me
        self.node = me.node
        self.as_peer = Peer(me.node, me.role, me.boot, me.name, me.certificate)


@dataclass(slots=True, eq=False)
class Host:
    """One machine. lag_s: how late it gets round to anything.  paused_s: how long it has stood still in all.

    wall_offset_s: how wrong its wall clock is; the monotonic one is everyone's.
    """

    name: str
    node: NodeId
    address: Address
    role: Role
    disk: Disk = field(default_factory=Disk)
    process: Process | None = None
    is_paused: bool = False
    paused_at: float = 0.0
    paused_s: float = 0.0
    lag_s: float = 0.0
    busy_until: float = 0.0
    wall_offset_s: float = 0.0
    waiting: deque[tuple[Process, Action]] = field(default_factory=deque)
    bytes_sent: int = 0
    packets_sent: int = 0

    @property
    def running(self) -> Process:
        """Its process, which is there."""
        assert self.process is not None, f"{self.name} is down"
        return self.process

    @property
    def is_up(self) -> bool:
        """Whether a process runs on it, be it paused."""
        return self.process is not None

    def hold(self, process: Process, action: Action) -> None:
        """Keep what arrives while the process stands still."""
        if len(self.waiting) < MAX_WAITING:
            self.waiting.append((process, action))
