"""What has been read and checked already: of the copies of a statement, which are most, none is read twice.

Reading says the same to whoever asks, so the nodes of a simulated mesh share one, and hold each fact once instead of
once a node. Whether a statement is news, and whose word counts, stays with `knowledge`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from gossip.facts import Fact, FactHeader, open_fact, read_header
from gossip.member import MemberBody, MemberRecord, open_member, read_body
from gossip.message import (
    Accusation,
    FactRumour,
    MemberRumour,
    OutlineEntry,
    Rumour,
    decode_outline_entry,
    decode_rumour,
    fits_datagram,
)
from gossip.trust import Certified, Verifier
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


@dataclass(slots=True, eq=False)
class HeardRecord:
    """A member's statement as somebody told it: what it says can be looked at before the signature is checked."""

    rumour: MemberRumour
    body: MemberBody
    _checked: MemberRecord | None = None
    _certified: Certified | None = None

    def open(self, verifier: Verifier, mesh_id: bytes, peer: NodeId) -> MemberRecord:
        """Check it, once for all while its certificate proves the same. Raises ProtocolError."""
        certified = verifier.certified(self.rumour.certificate)
        if self._checked is None or certified is None or certified != self._certified:
            self._checked = open_member(self.rumour, self.body, verifier, mesh_id, peer)
            self._certified = certified
        return self._checked


Statement = HeardRecord | Accusation | HeardFact


class Reading:
    """The latest statements and names of one mesh, by their bytes."""

    def __init__(self) -> None:
        self._statements: dict[bytes, Statement] = {}
        self._entries: dict[bytes, OutlineEntry] = {}

    def statement(self, payload: bytes, peer: NodeId) -> Statement:
        """What a rumour that `peer` passed on says. Raises ProtocolError."""
        return self._statements.get(payload) or self._read(payload, peer)

    def entry(self, encoded: bytes, peer: NodeId) -> OutlineEntry:
        """What `peer` says by name. Raises ProtocolError."""
        held = self._entries.get(encoded)
        if held is None:
            held = decode_outline_entry(encoded, peer)
            _keep(self._entries, encoded, held)
        return held

    def _read(self, payload: bytes, peer: NodeId) -> Statement:
        said = _hear(decode_rumour(payload, peer), peer)
        if fits_datagram(payload):
            _keep(self._statements, payload, said)
        return said


def _hear(rumour: Rumour, peer: NodeId) -> Statement:
    match rumour:
        case MemberRumour():
            return HeardRecord(rumour, read_body(rumour, peer))
        case FactRumour():
            header = read_header(rumour, peer)
            return HeardFact(rumour, header, NodeId(header.node))
        case Accusation():
            return rumour


def _keep(held: dict[bytes, T], key: bytes, value: T) -> None:
    if len(held) >= MAX_READ:
        del held[next(iter(held))]
    held[key] = value
