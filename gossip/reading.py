"""What has been read and checked already: of the copies of a statement, which are most, none is read twice.

Reading says the same to whoever asks, so the nodes of a simulated mesh share one, and hold each fact once instead of
once a node. Whether a statement is news, and whose word counts, stays with `knowledge`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from gossip.facts import Fact, FactHeader, open_fact, read_header
from gossip.message import (
    Accusation,
    FactRumour,
    MemberRumour,
    OutlineEntry,
    decode_outline_entry,
    decode_rumour,
    fits_datagram,
)
from gossip.trust import Verifier
from transport.interface import NodeId

T = TypeVar("T")

MAX_READ = 1024
"""Of each kind, and none larger than a packet: with what was read out of them 4 MiB at most."""


@dataclass(slots=True, eq=False)
class HeardFact:
    """A fact as somebody told it: its header can be looked at before the signature is checked, which costs more."""

    rumour: FactRumour
    header: FactHeader
    node: NodeId
    _checked: Fact | None = None
    _public: bytes = b""

    def open(self, owner_public: bytes, verifier: Verifier, mesh_id: bytes, peer: NodeId) -> Fact:
        """Check it, once for all. Raises ProtocolError naming what is wrong and `peer`."""
        if self._checked is None or self._public != owner_public:
            self._checked = open_fact(self.rumour, self.header, owner_public, verifier, mesh_id, peer)
            self._public = owner_public
        return self._checked


class Reading:
    """The latest statements and names of one mesh, by their bytes."""

    def __init__(self) -> None:
        self._statements: dict[bytes, MemberRumour | Accusation | HeardFact] = {}
        self._entries: dict[bytes, OutlineEntry] = {}

    def statement(self, payload: bytes, peer: NodeId) -> MemberRumour | Accusation | HeardFact:
        """What a rumour that `peer` passed on says. Raises ProtocolError."""
        return self._statements.get(payload) or self._read(payload, peer)

    def entry(self, encoded: bytes, peer: NodeId) -> OutlineEntry:
        """What `peer` says by name. Raises ProtocolError."""
        held = self._entries.get(encoded)
        if held is None:
            held = decode_outline_entry(encoded, peer)
            _keep(self._entries, encoded, held)
        return held

    def _read(self, payload: bytes, peer: NodeId) -> MemberRumour | Accusation | HeardFact:
        rumour: MemberRumour | Accusation | FactRumour = decode_rumour(payload, peer)
        said = rumour if not isinstance(rumour, FactRumour) else _hear(rumour, peer)
        if fits_datagram(payload):
            _keep(self._statements, payload, said)
        return said


def _hear(rumour: FactRumour, peer: NodeId) -> HeardFact:
    header = read_header(rumour, peer)
    return HeardFact(rumour, header, NodeId(header.node))


def _keep(held: dict[bytes, T], key: bytes, value: T) -> None:
    if len(held) >= MAX_READ:
        del held[next(iter(held))]
    held[key] = value
