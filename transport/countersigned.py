"""Certificates that two members renewed while neither root nor delegate could be reached.

Such a certificate carries its own grounds: the last certificate that root or delegate issued to its node, and
that of each of the two, so it stands on root signatures alone and never on another countersigned one. It ends
at most 60 days after the certificate it renews would have. Why so: docs/decisions/0003-countersigned-renewal.md.
Who asks whom, and who says yes, is decided in `renewal`.

The grounds are written without what the whole says already: a member record has to fit into one datagram.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import msgspec

from transport import wire
from transport.errors import ProtocolError, RefusalCode, Refused
from transport.identity import NodeKey, node_id, verify
from transport.interface import Role
from transport.issuance import (
    LIFETIME_S,
    MAX_CERTIFICATE_BYTES,
    SERIAL_BYTES,
    Capabilities,
    CertificateBody,
    MemberCertificate,
    Serial,
    bad_certificate,
    check_mesh,
    check_start,
    encode_signed,
    read_issued,
    verify_issued,
)
from transport.rotation import Roots

GRACE_S = 60 * 86400
COUNTERSIGNERS = 2
_FORM = 2
_DOMAIN = b"meshd-countersign-v1"
_SERIAL_DOMAIN = b"meshd-countersign-serial-v1"
_ROOT = 0


class Span(NamedTuple):
    """From when to when a renewal is to hold, unix seconds."""

    not_before: int
    expires: int


@dataclass(frozen=True, slots=True)
class Vouch:
    """One member's word for a renewal. issued: what root or delegate last issued to that member."""

    issued: MemberCertificate
    signature: bytes


class _Ground(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An issued certificate without its mesh. signer: 0 is the root, n the n-th of the delegates beside it."""

    node_public: wire.Bytes32
    role: Role
    caps: Capabilities
    serial: Serial
    not_before: wire.Seconds
    expires: wire.Seconds
    signature: wire.Bytes64
    signer: Annotated[int, msgspec.Meta(ge=0, le=1 + COUNTERSIGNERS)]


class _Countersignature(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    ground: _Ground
    signature: wire.Bytes64


class _Countersigned(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=_FORM):
    mesh_id: wire.Bytes16
    renews: _Ground
    not_before: wire.Seconds
    expires: wire.Seconds
    countersignatures: tuple[_Countersignature, _Countersignature]
    delegates: Annotated[tuple[_Ground, ...], msgspec.Meta(max_length=1 + COUNTERSIGNERS)]


class _AnyForm(msgspec.Struct, frozen=True, array_like=True):
    form: int | bytes


def is_countersigned(encoded: bytes) -> bool:
    """Whether these bytes are to be read by `verify_countersigned` rather than as an issued certificate."""
    try:
        return wire.decode(encoded, _AnyForm, peer=None, max_bytes=MAX_CERTIFICATE_BYTES).form == _FORM
    except ProtocolError:
        return False


def horizon(issued: MemberCertificate) -> int:
    """Until when, at most, members may prolong what root or delegate issued."""
    return issued.expires + GRACE_S


def countersign(key: NodeKey, renews: MemberCertificate, span: Span) -> bytes:
    """Sign, as a member, that the holder of `renews` stays one for `span`."""
    return key.sign(_message(renews, span))


def is_countersignature(public: bytes, signature: bytes, renews: MemberCertificate, span: Span) -> bool:
    """Whether the holder of `public` signed as `countersign` does."""
    return verify(public, signature, _message(renews, span))


def assemble(renews: MemberCertificate, span: Span, vouches: Sequence[Vouch]) -> bytes:
    """Put a renewed certificate together from two vouches, given in either order."""
    one, other = sorted(vouches, key=lambda vouch: vouch.issued.node_public)
    delegates = _delegates((renews, one.issued, other.issued))
    countersigned = _Countersigned(
        renews.mesh_id,
        _compact(renews, delegates),
        *span,
        (
            _Countersignature(_compact(one.issued, delegates), one.signature),
            _Countersignature(_compact(other.issued, delegates), other.signature),
        ),
        tuple(_compact(delegate, ()) for delegate in delegates),
    )
    return wire.encode(countersigned)


def verify_countersigned(encoded: bytes, roots: Roots, mesh_id: bytes, now: float) -> MemberCertificate:
    """Check a renewed certificate and all its grounds; `check_time` is left to the caller.

    Raises Refused: WRONG_MESH, BAD_CERTIFICATE, or EXPIRED_CERTIFICATE when a root under it counts no more.
    """
    found = _read(encoded)
    check_mesh(found.mesh_id, mesh_id)
    delegates = [_expand(mesh_id, ground, ()) for ground in found.delegates]
    grounds = (found.renews, *(one.ground for one in found.countersignatures))
    renews, *members = (verify_issued(_expand(mesh_id, one, delegates), roots, mesh_id, now) for one in grounds)
    span = Span(found.not_before, found.expires)
    check_terms(renews, members, span, now)
    vouches = [Vouch(one, two.signature) for one, two in zip(members, found.countersignatures, strict=True)]
    for vouch in vouches:
        if not is_countersignature(vouch.issued.node_public, vouch.signature, renews, span):
            raise bad_certificate(renews.node_public, "one who should have countersigned it did not")
    if assemble(renews, span, vouches) != encoded:
        raise bad_certificate(renews.node_public, "its encoding is not the one meshd writes")
    return MemberCertificate(
        mesh_id,
        renews.node_public,
        renews.role,
        frozenset(),
        _serial(renews.node_public, renews.serial, span),
        span.not_before,
        min((span.expires, *_closing(roots, (renews, *members)))),
        None,
        encoded,
        renews.root_public,
        renews,
        tuple(members),
    )


def countersigned_names(encoded: bytes) -> frozenset[bytes]:
    """As `MemberCertificate.names`, read without verifying anything. Raises Refused when it cannot be read."""
    found = _read(encoded)
    span = Span(found.not_before, found.expires)
    grounds = (found.renews, *(one.ground for one in found.countersignatures), *found.delegates)
    names = {name for ground in grounds for name in (node_id(ground.node_public), ground.serial)}
    return frozenset(names | {_serial(found.renews.node_public, found.renews.serial, span)})


def check_terms(renews: MemberCertificate, members: Sequence[MemberCertificate], span: Span, now: float) -> None:
    """Who may prolong what for whom, and until when. Raises Refused with BAD_CERTIFICATE."""
    for ground in (renews, *members):
        check_start(ground, now)
    if renews.role is Role.OWNER:
        raise bad_certificate(renews.node_public, "members cannot make an owner; only the root key may")
    if any(member.role is Role.CLIENT for member in members):
        raise bad_certificate(renews.node_public, "a client countersigned it, which is for members")
    if len({renews.node_public, *(member.node_public for member in members)}) != 1 + len(members):
        raise bad_certificate(renews.node_public, "it takes two members other than itself to renew it")
    if not 0 < span.expires - span.not_before <= LIFETIME_S or span.expires > horizon(renews):
        raise bad_certificate(renews.node_public, "members may prolong a membership by 30 days, and by 60 days in all")
    if any(span.not_before > horizon(member) for member in members):
        raise bad_certificate(renews.node_public, "the root has not confirmed one who countersigned it for too long")


def _read(encoded: bytes) -> _Countersigned:
    source = "a renewed membership certificate"
    try:
        found = wire.decode(encoded, _Countersigned, peer=None, max_bytes=MAX_CERTIFICATE_BYTES, source=source)
    except ProtocolError as error:
        raise Refused(RefusalCode.BAD_CERTIFICATE, str(error)) from error
    grounds = (found.renews, *(one.ground for one in found.countersignatures))
    if max(one.signer for one in grounds) > len(found.delegates) or any(one.signer for one in found.delegates):
        raise bad_certificate(found.renews.node_public, "it names a delegate that it does not carry")
    return found


def _message(renews: MemberCertificate, span: Span) -> bytes:
    serial = _serial(renews.node_public, renews.serial, span)
    body = CertificateBody(renews.mesh_id, renews.node_public, renews.role, (), serial, *span)
    return _DOMAIN + wire.encode(body)


def _serial(node_public: bytes, renewed_serial: bytes, span: Span) -> bytes:
    """Follows from what is renewed, so that nobody can choose another node's serial and have it revoked."""
    spelled = b"".join(second.to_bytes(8, "big") for second in span)
    return hashlib.sha256(_SERIAL_DOMAIN + node_public + renewed_serial + spelled).digest()[:SERIAL_BYTES]


def _delegates(certificates: Iterable[MemberCertificate]) -> list[MemberCertificate]:
    """The delegates behind `certificates`, each once, in order of appearance."""
    found = {one.delegate.encoded: one.delegate for one in certificates if one.delegate is not None}
    return list(found.values())


def _compact(certificate: MemberCertificate, delegates: Sequence[MemberCertificate]) -> _Ground:
    signed, body = read_issued(certificate.encoded)
    encoded = [delegate.encoded for delegate in delegates]
    signer = 1 + encoded.index(signed.delegate) if signed.delegate else _ROOT
    return _Ground(
        body.node_public, body.role, body.caps, body.serial, body.not_before, body.expires, signed.signature, signer
    )


def _expand(mesh_id: bytes, ground: _Ground, delegates: Sequence[bytes]) -> bytes:
    body = CertificateBody(
        mesh_id, ground.node_public, ground.role, ground.caps, ground.serial, ground.not_before, ground.expires
    )
    delegate = b"" if ground.signer == _ROOT else delegates[ground.signer - 1]
    return encode_signed(wire.encode(body), ground.signature, delegate)


def _closing(roots: Roots, grounds: Iterable[MemberCertificate]) -> list[int]:
    """When the roots under `grounds` stop counting, those that will."""
    used = {ground.root_public for ground in grounds}
    return [root.until for root in roots.every() if root.until is not None and root.public in used]
