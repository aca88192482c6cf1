"""Renewing a membership before it ends: who is asked on a `renew/1` stream, who says yes, and what comes of it.

A node asks root or delegate when two thirds of its certificate's life have passed (`wish`). While neither can be
reached it asks members for countersignatures, of which two make a certificate (`countersigned`). One stream is
one question and one answer; a refusal is a `handshake.Refusal`. When to ask again is the agent's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import msgspec

from transport import wire
from transport.certificate import MemberCertificate, Membership, verify_certificate
from transport.countersigned import (
    COUNTERSIGNERS,
    Span,
    Vouch,
    assemble,
    check_terms,
    countersign,
    horizon,
    is_countersignature,
)
from transport.errors import RefusalCode, Refused
from transport.handshake import read_message
from transport.identity import NodeKey, RandomBytes, short
from transport.interface import NodeId, Role
from transport.issuance import (
    LIFETIME_S,
    Capability,
    EncodedCertificate,
    Signer,
    bad_certificate,
    issue,
    verify_issued,
)
from transport.rotation import Roots, Successions
from transport.site import Site, check_holder
from transport.validity import CLOCK_TOLERANCE_S

PROTOCOL = "renew/1"
DEADLINE_S = 5.0
_DELEGATE_WAITS = 0.9
"""Members cannot renew the right to invite: a delegate asks them only when little of its life is left."""


class Wish(Enum):
    """From whom a node wants a new certificate now."""

    NONE = "none"
    SIGNER = "signer"
    ANYONE = "anyone"


class Proposal(msgspec.Struct, frozen=True):
    """Which renewal a member is asked to countersign."""

    not_before: wire.Seconds
    expires: wire.Seconds

    @property
    def span(self) -> Span:
        return Span(self.not_before, self.expires)


class RenewRequest(msgspec.Struct, frozen=True, tag_field="kind", tag="renew-request"):
    """certificate: the asker's present one.  proposal: None when only root or delegate will do."""

    certificate: EncodedCertificate
    proposal: Proposal | None = None


class Renewed(msgspec.Struct, frozen=True, tag_field="kind", tag="renewed"):
    """A signer's answer: a new certificate, and how the root it holds under came into office."""

    certificate: EncodedCertificate
    successions: Successions = ()


class Countersigned(msgspec.Struct, frozen=True, tag_field="kind", tag="countersigned"):
    """A member's answer. certificate: what root or delegate last issued to that member."""

    certificate: EncodedCertificate
    signature: wire.Bytes64


def wish(certificate: MemberCertificate, roots: Roots, now: float) -> Wish:
    """From whom to ask a new certificate, for one that holds now.

    A signer is wanted early for what only a signer mends: members signed it, or a root that has been replaced.
    """
    spent = certificate.life_spent(now)
    is_last = certificate.renews is not None and certificate.expires >= horizon(certificate.issued)
    if spent >= (_DELEGATE_WAITS if certificate.caps else 2 / 3) and certificate.role is not Role.OWNER and not is_last:
        return Wish.ANYONE
    if certificate.renew_due(now) or certificate.renews is not None or certificate.root_public != roots.current:
        return Wish.SIGNER
    return Wish.NONE


def may_sign(certificate: MemberCertificate) -> bool:
    """Whether a node with this certificate is worth asking for a new one; others are, for a countersignature."""
    return certificate.role is Role.OWNER or "can_invite" in certificate.caps


class Renewing:
    """One attempt of a node to renew its certificate. Ask signers first, then members, until `receive` returns."""

    def __init__(self, key: NodeKey, membership: Membership, revoked: frozenset[bytes], now: float) -> None:
        """Raises Refused when the certificate does not hold any more: then only a token helps."""
        self._key = key
        self._membership = membership
        self._revoked = revoked
        self._held = membership.verified(now)
        issued = self._held.issued
        self._span = Span(int(now), min(int(now) + LIFETIME_S, horizon(issued)))
        self._vouches: dict[NodeId, Vouch] = {}

    @property
    def wish(self) -> Wish:
        """Whom to ask."""
        return wish(self._held, self._membership.roots(), self._span.not_before)

    def request(self) -> bytes:
        """The question, the same for everyone."""
        proposal = Proposal(*self._span) if self.wish is Wish.ANYONE else None
        return wire.encode(RenewRequest(self._membership.certificate, proposal))

    def receive(self, message: bytes, peer: NodeId, now: float) -> Membership | None:
        """Take an answer: the renewed membership, to be kept; or None while one more countersignature is missing.

        Raises Refused: the peer's words, or ours about its answer. What came from others before still counts.
        """
        match read_message(message, Renewed | Countersigned, peer):
            case Renewed() as answer:
                return self._signed(answer, peer, now)
            case Countersigned() as answer:
                return self._vouched(answer, peer, now)
        raise AssertionError("read_message returns one of the two")

    def _signed(self, answer: Renewed, peer: NodeId, now: float) -> Membership:
        held, membership = self._held, self._membership
        roots = membership.roots().extended(membership.mesh_id, answer.successions)
        fresh = verify_certificate(answer.certificate, roots, membership.mesh_id, now)
        check_holder(fresh, self._key.public, self._revoked)
        loses = fresh.role is not held.role or (held.caps > fresh.caps and fresh.delegate is not None)
        if fresh.renews is not None or loses or fresh.expires < held.expires - CLOCK_TOLERANCE_S:
            raise Refused(
                RefusalCode.BAD_CERTIFICATE, f"node {short(peer)} answered with a certificate that is worth less"
            )
        return membership.under(roots).renewed(answer.certificate)

    def _vouched(self, answer: Countersigned, peer: NodeId, now: float) -> Membership | None:
        membership, renews = self._membership, self._held.issued
        issued = verify_issued(answer.certificate, membership.roots(), membership.mesh_id, now)
        if issued.node != peer or issued.revoked_by(self._revoked):
            raise Refused(RefusalCode.BAD_CERTIFICATE, f"node {short(peer)} countersigned with what is not its own")
        check_terms(renews, (issued,), self._span, now)
        if not is_countersignature(issued.node_public, answer.signature, renews, self._span):
            raise Refused(RefusalCode.BAD_PROOF, f"the countersignature of node {short(peer)} does not hold")
        self._vouches[peer] = Vouch(issued, answer.signature)
        if len(self._vouches) < COUNTERSIGNERS:
            return None
        encoded = assemble(renews, self._span, list(self._vouches.values())[:COUNTERSIGNERS])
        verify_certificate(encoded, membership.roots(), membership.mesh_id, now)
        return membership.renewed(encoded)


@dataclass(frozen=True, slots=True)
class Renewer:
    """The node that is asked. delegates: whom the owner wants to invite; only the root's node has any."""

    site: Site
    delegates: frozenset[NodeId] = frozenset()

    def answer(self, message: bytes, peer: NodeId, now: float, random_bytes: RandomBytes) -> bytes:
        """Answer `peer`. Every failure is Refused, to be said to it."""
        asked = read_message(message, RenewRequest, peer)
        membership, revoked = self._membership(), self.site.revoked
        held = verify_certificate(asked.certificate, membership.roots(), membership.mesh_id, now)
        if held.node != peer:
            raise Refused(RefusalCode.BAD_CERTIFICATE, f"node {short(peer)} asked to renew another node's certificate")
        check_holder(held, held.node_public, revoked)
        signer = self._signer_for(held, now)
        if signer is not None:
            encoded = issue(
                signer, membership.mesh_id, held.node_public, held.role, self._caps(held, signer), now, random_bytes
            )
            return wire.encode(Renewed(encoded, membership.successions))
        if asked.proposal is None:
            raise Refused(RefusalCode.NOT_SIGNER, f"node {short(self.site.key.node)} cannot sign this certificate")
        return self._countersigned(held, asked.proposal.span, now)

    def _membership(self) -> Membership:
        if self.site.membership is None:
            raise Refused(RefusalCode.WRONG_MESH, "the node that was asked has not joined a mesh itself yet")
        return self.site.membership

    def _signer_for(self, held: MemberCertificate, now: float) -> Signer | None:
        """The root renews all; a delegate what it may give, where that lasts longer than what is held."""
        signer = self.site.signer
        if signer is None or signer.certificate is None:
            return signer
        own = signer.certificate
        if held.role is Role.OWNER or held.caps or own.revoked_by(self.site.revoked):
            return None
        return signer if min(int(now) + LIFETIME_S, own.expires) > held.expires else None

    def _caps(self, held: MemberCertificate, signer: Signer) -> tuple[Capability, ...]:
        may_invite = held.role is Role.OWNER or held.node in self.delegates
        return ("can_invite",) if may_invite and signer.certificate is None else ()

    def _countersigned(self, held: MemberCertificate, span: Span, now: float) -> bytes:
        site, membership = self.site, self._membership()
        own = membership.verified(now)
        check_holder(own, site.key.public, site.revoked)
        _check_due(held, span, now)
        check_terms(held.issued, (own.issued,), span, now)
        return wire.encode(Countersigned(own.issued.encoded, countersign(site.key, held.issued, span)))


def _check_due(held: MemberCertificate, span: Span, now: float) -> None:
    """Members renew what is about to end, as of now: nobody can lay in a stock of renewals."""
    if not held.renew_due(now + CLOCK_TOLERANCE_S):
        raise Refused(RefusalCode.NOT_DUE, f"the membership of node {short(held.node)} is not due for renewal yet")
    if abs(span.not_before - now) > CLOCK_TOLERANCE_S:
        raise bad_certificate(held.node_public, "its renewal does not start now; set the clocks of both hosts")
