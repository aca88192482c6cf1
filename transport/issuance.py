"""Certificates signed by the mesh root, or by a delegate whose own root-signed certificate they carry.

`certificate` is the door that others use; how two members renew a certificate is in `countersigned`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from transport import wire
from transport.errors import ProtocolError, RefusalCode, Refused
from transport.identity import NodeKey, RandomBytes, node_id, short, verify
from transport.interface import NodeId, Role
from transport.rotation import Root, Roots, retired
from transport.validity import CLOCK_TOLERANCE_S, span_text

Capability = Literal["can_invite"]

MAX_CERTIFICATE_BYTES = 1024
LIFETIME_S = 30 * 86400
SERIAL_BYTES = 12
CERTIFICATE_DOMAIN = b"meshd-certificate-v1"

Serial = Annotated[bytes, msgspec.Meta(min_length=SERIAL_BYTES, max_length=SERIAL_BYTES)]
Capabilities = Annotated[tuple[Capability, ...], msgspec.Meta(max_length=8)]
EncodedCertificate = Annotated[bytes, msgspec.Meta(max_length=MAX_CERTIFICATE_BYTES)]


class CertificateBody(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is signed."""

    mesh_id: wire.Bytes16
    node_public: wire.Bytes32
    role: Role
    caps: Capabilities
    serial: Serial
    not_before: wire.Seconds
    expires: wire.Seconds


class SignedCertificate(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The body exactly as it was signed, and the delegate's own certificate (empty: signed by the root)."""

    body: EncodedCertificate
    signature: wire.Bytes64
    delegate: EncodedCertificate


@dataclass(frozen=True, slots=True)
class MemberCertificate:
    """A certificate that has been verified. `delegate` signed it, or the mesh root where that is None.

    Two members signed it instead where `renews` is given: the last certificate that root or delegate issued
    to this node. countersigners: what root or delegate issued to those two.
    root_public: the root under which it all holds.  expires: no later than that root counts.
    """

    mesh_id: bytes
    node_public: bytes
    role: Role
    caps: frozenset[Capability]
    serial: bytes
    not_before: int
    expires: int
    delegate: MemberCertificate | None
    encoded: bytes
    root_public: bytes = b""
    renews: MemberCertificate | None = None
    countersigners: tuple[MemberCertificate, ...] = ()

    @property
    def node(self) -> NodeId:
        return node_id(self.node_public)

    @property
    def issued(self) -> MemberCertificate:
        """The last one that root or delegate signed for this node: this, or what it renews."""
        return self.renews or self

    def renew_due(self, now: float) -> bool:
        """Whether two thirds of its life have passed, which is when its node asks for a new one."""
        return self.life_spent(now) >= 2 / 3

    def life_spent(self, now: float) -> float:
        """How much of its life has passed: 0 when new, 1 at its end."""
        return (now - self.not_before) / max(1, self.expires - self.not_before)

    @property
    def names(self) -> frozenset[bytes]:
        """Every node id and serial that it stands on: revoking any one of them revokes it."""
        beneath = (self.delegate, self.renews, *self.countersigners)
        own = frozenset({self.node, self.serial})
        return own.union(*(certificate.names for certificate in beneath if certificate))

    def revoked_by(self, revoked: frozenset[bytes]) -> bool:
        """Whether a list of node ids and serials names this certificate, its node, or who is behind it."""
        return bool(revoked) and not self.names.isdisjoint(revoked)


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs certificates here: the mesh root, or a delegate with its own `certificate`."""

    key: NodeKey
    certificate: MemberCertificate | None = None


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
    serial = random_bytes(SERIAL_BYTES)
    body = wire.encode(CertificateBody(mesh_id, node_public, role, caps, serial, int(now), expires))
    return encode_signed(body, signer.key.sign(CERTIFICATE_DOMAIN + body), delegate.encoded if delegate else b"")


def encode_signed(body: bytes, signature: bytes, delegate: bytes) -> bytes:
    """Put a certificate together from its parts. delegate: empty when the root signed."""
    return wire.encode(SignedCertificate(body, signature, delegate))


def verify_issued(encoded: bytes, roots: Roots, mesh_id: bytes, now: float) -> MemberCertificate:
    """Check who issued a certificate and whether he might; `check_time` is left to the caller.

    Raises Refused: WRONG_MESH, BAD_CERTIFICATE, or EXPIRED_CERTIFICATE when its root counts no more.
    """
    signed, body = read_issued(encoded)
    check_mesh(body.mesh_id, mesh_id)
    delegate = None
    if signed.delegate:
        delegate = verify_issued(signed.delegate, roots, mesh_id, now)
        _check_delegation(delegate, body)
    root = _check_signature(signed, body, delegate, roots, now)
    return MemberCertificate(
        body.mesh_id,
        body.node_public,
        body.role,
        frozenset(body.caps),
        body.serial,
        body.not_before,
        body.expires if root.until is None else min(body.expires, root.until),
        delegate,
        encoded,
        root.public,
    )


def read_issued(encoded: bytes) -> tuple[SignedCertificate, CertificateBody]:
    """Take a certificate apart. One certificate has one spelling: others are refused."""
    source = "a membership certificate"
    try:
        signed = wire.decode(encoded, SignedCertificate, peer=None, max_bytes=MAX_CERTIFICATE_BYTES, source=source)
        body = wire.decode(signed.body, CertificateBody, peer=None, max_bytes=MAX_CERTIFICATE_BYTES, source=source)
    except ProtocolError as error:
        raise Refused(RefusalCode.BAD_CERTIFICATE, str(error)) from error
    if wire.encode(signed) != encoded or wire.encode(body) != signed.body:
        raise bad_certificate(body.node_public, "its encoding is not the one meshd writes")
    return signed, body


def issued_names(encoded: bytes) -> frozenset[bytes]:
    """As `MemberCertificate.names`, read without verifying anything. Raises Refused when it cannot be read."""
    signed, body = read_issued(encoded)
    own = frozenset({node_id(body.node_public), body.serial})
    return own | issued_names(signed.delegate) if signed.delegate else own


def check_mesh(found: bytes, wanted: bytes) -> None:
    """The certificate is of this mesh. Raises Refused."""
    if found != wanted:
        raise Refused(RefusalCode.WRONG_MESH, "this certificate belongs to another mesh; join this one with a token")


def check_start(certificate: MemberCertificate, now: float) -> None:
    """The certificate's life has begun, by clocks that may differ by ten minutes. Raises Refused."""
    if now < certificate.not_before - CLOCK_TOLERANCE_S:
        ahead = span_text(certificate.not_before - now)
        raise bad_certificate(certificate.node_public, f"it starts {ahead} from now; set the clocks of both hosts")


def check_time(certificate: MemberCertificate, now: float) -> None:
    """The certificate's life has begun and not ended; that of the delegate behind it too. Raises Refused."""
    if certificate.delegate is not None:
        check_time(certificate.delegate, now)
    check_start(certificate, now)
    if now > certificate.expires + CLOCK_TOLERANCE_S:
        who, age = short(certificate.node), span_text(now - certificate.expires)
        raise Refused(
            RefusalCode.EXPIRED_CERTIFICATE,
            f"the membership of node {who} expired {age} ago; ask the owner for a token (meshd token create) "
            "and run meshd --join TOKEN there",
        )


def bad_certificate(node_public: bytes, reason: str) -> Refused:
    """A certificate that shows to be of the node with this key, and is not valid."""
    who = short(node_id(node_public))
    return Refused(RefusalCode.BAD_CERTIFICATE, f"the membership certificate of node {who} is not valid: {reason}")


def _check_delegation(delegate: MemberCertificate, body: CertificateBody) -> None:
    if delegate.delegate is not None:
        raise bad_certificate(body.node_public, "a delegate of a delegate signed it; only the root may name delegates")
    if "can_invite" not in delegate.caps:
        raise bad_certificate(body.node_public, f"node {short(delegate.node)} signed it, which may not invite")
    if body.role is Role.OWNER or body.caps or body.expires > delegate.expires:
        raise bad_certificate(body.node_public, f"its delegate {short(delegate.node)} gave more than it has to give")


def _check_signature(
    signed: SignedCertificate, body: CertificateBody, delegate: MemberCertificate | None, roots: Roots, now: float
) -> Root:
    """The root that signed, or under which the delegate did. Raises Refused."""
    message = CERTIFICATE_DOMAIN + signed.body
    for root in roots.every():
        if delegate is not None:
            is_signer = delegate.root_public == root.public and verify(delegate.node_public, signed.signature, message)
        else:
            is_signer = verify(root.public, signed.signature, message)
        if is_signer and root.counts(now):
            return root
        if is_signer:
            raise retired(root, now)
    raise bad_certificate(body.node_public, "its signature is not by this mesh's root or a delegate")
