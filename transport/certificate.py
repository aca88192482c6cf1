"""Membership: the certificate that makes a node part of a mesh, and what a node keeps of its mesh on disk.

A certificate is signed by the mesh root, or by a delegate whose own root-signed certificate it carries and
whose `can_invite` it shows. Countersigned renewal and root rotation will come to live here as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from transport import wire
from transport.errors import ProtocolError, RefusalCode, Refused
from transport.identity import NodeKey, RandomBytes, node_id, short, verify
from transport.interface import NodeId, Role

Capability = Literal["can_invite"]

MAX_CERTIFICATE_BYTES = 1024
MESH_ID_BYTES = 16
LIFETIME_S = 30 * 86400
CLOCK_TOLERANCE_S = 600
_SERIAL_BYTES = 12
_DOMAIN = b"meshd-certificate-v1"
_MAX_MEMBERSHIP_BYTES = 4096

Serial = Annotated[bytes, msgspec.Meta(min_length=_SERIAL_BYTES, max_length=_SERIAL_BYTES)]
Capabilities = Annotated[tuple[Capability, ...], msgspec.Meta(max_length=8)]
EncodedCertificate = Annotated[bytes, msgspec.Meta(max_length=MAX_CERTIFICATE_BYTES)]


class _Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    mesh_id: wire.Bytes16
    node_public: wire.Bytes32
    role: Role
    caps: Capabilities
    serial: Serial
    not_before: wire.Seconds
    expires: wire.Seconds


class _Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The body exactly as it was signed, and the delegate's own certificate (empty: signed by the root)."""

    body: EncodedCertificate
    signature: wire.Bytes64
    delegate: EncodedCertificate


@dataclass(frozen=True, slots=True)
class MemberCertificate:
    """A certificate that has been verified. `delegate` signed it, or the mesh root where that is None."""

    mesh_id: bytes
    node_public: bytes
    role: Role
    caps: frozenset[Capability]
    serial: bytes
    not_before: int
    expires: int
    delegate: MemberCertificate | None
    encoded: bytes

    @property
    def node(self) -> NodeId:
        return node_id(self.node_public)

    def renew_due(self, now: float) -> bool:
        """Whether two thirds of its life have passed, which is when its node asks for a new one."""
        return now >= self.not_before + (self.expires - self.not_before) * 2 / 3

    def revoked_by(self, revoked: frozenset[bytes]) -> bool:
        """Whether a list of node ids and serials names this certificate, its node, or the delegate behind it."""
        if self.serial in revoked or self.node in revoked:
            return True
        return self.delegate is not None and self.delegate.revoked_by(revoked)


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs certificates here: the mesh root, or a delegate with its own `certificate`."""

    key: NodeKey
    certificate: MemberCertificate | None = None


class Membership(msgspec.Struct, frozen=True):
    """What a node keeps on disk once it belongs to a mesh."""

    mesh_id: wire.Bytes16
    mesh_name: wire.ShortText
    root_public: wire.Bytes32
    certificate: EncodedCertificate

    def to_bytes(self) -> bytes:
        return wire.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Membership:
        """Read what `to_bytes` wrote. Raises ProtocolError when the file is damaged."""
        return wire.decode(data, cls, peer=None, max_bytes=_MAX_MEMBERSHIP_BYTES, source="the membership file")

    def verified(self, now: float) -> MemberCertificate:
        """This node's own certificate. Raises Refused as `verify_certificate` does."""
        return verify_certificate(self.certificate, self.root_public, self.mesh_id, now)


def found_mesh(name: str, root: NodeKey, node: NodeKey, now: float, random_bytes: RandomBytes) -> Membership:
    """Make a new mesh whose owner is `node`. ValueError when the name is empty, too long or unprintable."""
    if not name or len(name) > 64 or not name.isprintable():
        raise ValueError(f"a mesh name is 1 to 64 printable characters, got {name[:80]!r}")
    mesh_id = random_bytes(MESH_ID_BYTES)
    certificate = issue(Signer(root), mesh_id, node.public, Role.OWNER, ("can_invite",), now, random_bytes)
    return Membership(mesh_id, name, root.public, certificate)


def issue(
    signer: Signer,
    mesh_id: bytes,
    node_public: bytes,
    role: Role,
    caps: tuple[Capability, ...],
    now: float,
    random_bytes: RandomBytes,
) -> bytes:
    """Sign a certificate of 30 days for the key `node_public`, and return it encoded.

    A delegate's certificates end with its own, and give neither ownership nor capabilities: ValueError.
    """
    delegate = signer.certificate
    expires = int(now) + LIFETIME_S
    if delegate is not None:
        if role is Role.OWNER or caps:
            raise ValueError("a delegate admits members and clients only, without capabilities; the root key may")
        expires = min(expires, delegate.expires)
    body = wire.encode(_Body(mesh_id, node_public, role, caps, random_bytes(_SERIAL_BYTES), int(now), expires))
    return wire.encode(_Signed(body, signer.key.sign(_DOMAIN + body), delegate.encoded if delegate else b""))


def verify_certificate(encoded: bytes, root_public: bytes, mesh_id: bytes, now: float) -> MemberCertificate:
    """Check an encoded certificate against the mesh it should belong to.

    Raises Refused: WRONG_MESH, BAD_CERTIFICATE (damaged, forged, from the future) or EXPIRED_CERTIFICATE.
    Clocks may differ by ten minutes.
    """
    signed, body = _read(encoded)
    if body.mesh_id != mesh_id:
        raise Refused(RefusalCode.WRONG_MESH, "this certificate belongs to another mesh; join this one with a token")
    delegate = None
    if signed.delegate:
        delegate = verify_certificate(signed.delegate, root_public, mesh_id, now)
        _check_delegation(delegate, body)
    signer_public = delegate.node_public if delegate else root_public
    if not verify(signer_public, signed.signature, _DOMAIN + signed.body):
        raise _bad(body, "its signature is not by this mesh's root or a delegate")
    _check_time(body, now)
    return MemberCertificate(
        body.mesh_id,
        body.node_public,
        body.role,
        frozenset(body.caps),
        body.serial,
        body.not_before,
        body.expires,
        delegate,
        encoded,
    )


def _read(encoded: bytes) -> tuple[_Signed, _Body]:
    """Take a certificate apart. One certificate has one spelling: others are refused."""
    source = "a membership certificate"
    try:
        signed = wire.decode(encoded, _Signed, peer=None, max_bytes=MAX_CERTIFICATE_BYTES, source=source)
        body = wire.decode(signed.body, _Body, peer=None, max_bytes=MAX_CERTIFICATE_BYTES, source=source)
    except ProtocolError as error:
        raise Refused(RefusalCode.BAD_CERTIFICATE, str(error)) from error
    if wire.encode(signed) != encoded or wire.encode(body) != signed.body:
        raise _bad(body, "its encoding is not the one meshd writes")
    return signed, body


def _check_delegation(delegate: MemberCertificate, body: _Body) -> None:
    if delegate.delegate is not None:
        raise _bad(body, "a delegate of a delegate signed it; only the root may name delegates")
    if "can_invite" not in delegate.caps:
        raise _bad(body, f"node {short(delegate.node)} signed it, which may not invite")
    if body.role is Role.OWNER or body.caps or body.expires > delegate.expires:
        raise _bad(body, f"its delegate {short(delegate.node)} gave more than it has to give")


def _check_time(body: _Body, now: float) -> None:
    if now < body.not_before - CLOCK_TOLERANCE_S:
        ahead_s = body.not_before - now
        raise _bad(body, f"it starts {span_text(ahead_s)} from now; set the clocks of both hosts")
    if now > body.expires + CLOCK_TOLERANCE_S:
        who, age = short(node_id(body.node_public)), span_text(now - body.expires)
        raise Refused(
            RefusalCode.EXPIRED_CERTIFICATE,
            f"the membership of node {who} expired {age} ago; ask the owner for a token (meshd token create) "
            "and run meshd --join TOKEN there",
        )


def _bad(body: _Body, reason: str) -> Refused:
    who = short(node_id(body.node_public))
    return Refused(RefusalCode.BAD_CERTIFICATE, f"the membership certificate of node {who} is not valid: {reason}")


def span_text(seconds: float) -> str:
    """A span of time in its largest fitting unit, for people: "3 h"."""
    for unit, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length_s:
            return f"{int(seconds // length_s)} {unit}"
    return f"{max(0, int(seconds))} s"
