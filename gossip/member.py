"""What a member says of itself, signed; and the order in which statements about it supersede each other.

The order is total, over (boot, incarnation, status): so merging is commutative, associative and
idempotent, and every node ends with the same picture whatever order the messages took.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import msgspec

from gossip.message import MemberRumour
from gossip.trust import Signer, Verifier
from gossip.view import Status
from transport import wire
from transport.certificate import MemberCertificate
from transport.errors import ProtocolError
from transport.identity import short
from transport.interface import Address, NodeId, Role

PROTOCOL_VERSION = 1
MAX_ADDRESSES = 6
_DOMAIN = b"meshd-member-v1"

Host = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Standing(NamedTuple):
    """Where a member's life stands; the greater of two is the later news (SWIM §4.2).

    boot: grows with every start.  incarnation: grows within a boot, only by its own word, to refute.
    """

    boot: int
    incarnation: int
    status: Status


def merge(one: Standing, other: Standing) -> Standing:
    """The later of two standings of one member."""
    return max(one, other)


class MemberBody(msgspec.Struct, frozen=True, array_like=True):
    """The signed part of a member's statement. has_left: its last word before it stops."""

    node: wire.Bytes32
    boot: wire.Counter
    incarnation: wire.Counter
    has_left: bool
    name: wire.ShortText
    addresses: Annotated[tuple[tuple[Host, Port], ...], msgspec.Meta(max_length=MAX_ADDRESSES)]
    protocol: Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """A member's own statement, its signature and certificate already checked. encoded: as it travels."""

    node: NodeId
    public: bytes
    role: Role
    serial: bytes
    boot: int
    incarnation: int
    has_left: bool
    name: str
    addresses: tuple[Address, ...]
    protocol: int
    encoded: bytes

    @property
    def standing(self) -> Standing:
        """As `body_standing`."""
        return Standing(self.boot, self.incarnation, Status.LEFT if self.has_left else Status.ALIVE)


@dataclass(frozen=True, slots=True)
class LocalNode:
    """Who this node is and how it signs. certificate: its encoded membership certificate."""

    node: NodeId
    public: bytes
    role: Role
    name: str
    boot: int
    addresses: tuple[Address, ...]
    certificate: bytes
    serial: bytes
    mesh_id: bytes
    signer: Signer

    @classmethod
    def of(
        cls, certificate: MemberCertificate, signer: Signer, name: str, boot: int, addresses: tuple[Address, ...]
    ) -> LocalNode:
        """This node as its own verified certificate has it. boot: higher than at any earlier start."""
        return cls(
            node=certificate.node,
            public=certificate.node_public,
            role=certificate.role,
            name=name,
            boot=boot,
            addresses=addresses,
            certificate=certificate.encoded,
            serial=certificate.serial,
            mesh_id=certificate.mesh_id,
            signer=signer,
        )


def seal_member(body: MemberBody, certificate: bytes, signer: Signer, mesh_id: bytes) -> bytes:
    """Sign `body` and encode it as a rumour. The mesh is part of what is signed."""
    encoded = wire.encode(body)
    return wire.encode(MemberRumour(encoded, certificate, signer.sign(_DOMAIN + mesh_id + encoded)))


class OwnSeal:
    """Signs this node's own records, with the addresses and the certificate that it has now."""

    def __init__(self, me: LocalNode) -> None:
        self._me = me

    def move(self, addresses: tuple[Address, ...]) -> None:
        self._me = replace(self._me, addresses=addresses)

    def recertify(self, certificate: bytes, serial: bytes) -> None:
        self._me = replace(self._me, certificate=certificate, serial=serial)

    def __call__(self, boot: int, incarnation: int, *, has_left: bool = False) -> MemberRecord:
        me = self._me
        addresses = me.addresses[:MAX_ADDRESSES]
        places = tuple((address.host, address.port) for address in addresses)
        body = MemberBody(me.node, boot, incarnation, has_left, me.name[:64], places, PROTOCOL_VERSION)
        return MemberRecord(
            node=me.node,
            public=me.public,
            role=me.role,
            serial=me.serial,
            boot=boot,
            incarnation=incarnation,
            has_left=has_left,
            name=me.name[:64],
            addresses=addresses,
            protocol=PROTOCOL_VERSION,
            encoded=seal_member(body, me.certificate, me.signer, me.mesh_id),
        )


def read_body(rumour: MemberRumour, peer: NodeId) -> MemberBody:
    """What a member's statement that `peer` passed on says, not yet believed. Raises ProtocolError."""
    return wire.decode(rumour.body, MemberBody, peer=peer, max_bytes=640)


def body_standing(body: MemberBody) -> Standing:
    """The standing that a statement alone gives its member."""
    return Standing(body.boot, body.incarnation, Status.LEFT if body.has_left else Status.ALIVE)


def open_member(
    rumour: MemberRumour, body: MemberBody, verifier: Verifier, mesh_id: bytes, peer: NodeId
) -> MemberRecord:
    """Check a member's statement that `peer` passed on. Raises ProtocolError naming what is wrong."""
    certified = verifier.certified(rumour.certificate)
    if certified is None:
        raise ProtocolError(f"node {short(peer)} passed on a member record whose certificate is not valid here")
    if body.node != certified.node:
        raise ProtocolError(f"node {short(peer)} passed on a member record under another node's certificate")
    if certified.role is Role.CLIENT:
        raise ProtocolError(f"node {short(peer)} passed on client {short(certified.node)} as a member")
    if not verifier.verify(certified.public, rumour.signature, _DOMAIN + mesh_id + rumour.body):
        raise ProtocolError(f"node {short(peer)} passed on a forged record of node {short(certified.node)}")
    return MemberRecord(
        node=certified.node,
        public=certified.public,
        role=certified.role,
        serial=certified.serial,
        boot=body.boot,
        incarnation=body.incarnation,
        has_left=body.has_left,
        name=wire.printable(body.name, 64),
        addresses=tuple(Address(host, port) for host, port in body.addresses),
        protocol=body.protocol,
        # Not as it came: whoever relays could have added what the signature does not cover.
        encoded=wire.encode(rumour),
    )
