"""Who may be believed: what gossip needs of keys and certificates, and how a real mesh answers.

The engine takes the two protocols, so that a simulation of many nodes may pass cheap ones. What a
certificate says is decided by `transport.certificate`; this module only remembers the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from transport import identity
from transport.certificate import MemberCertificate, names_in, verify_certificate
from transport.errors import Refused
from transport.interface import NodeId, Role
from transport.rotation import Roots

# Twice the members a mesh may have: a certificate and its renewal.
MAX_CACHED_CERTIFICATES = 2048


@dataclass(frozen=True, slots=True)
class Certified:
    """What a membership certificate proves about a node."""

    node: NodeId
    public: bytes
    role: Role
    serial: bytes


class Signer(Protocol):
    """The key of this node."""

    def sign(self, message: bytes) -> bytes:
        """Sign `message`: 64 bytes."""


class Verifier(Protocol):
    """Judges what others signed."""

    def certified(self, certificate: bytes) -> Certified | None:
        """What an encoded certificate proves now, or None when it proves nothing in this mesh."""

    def is_revoked(self, certificate: bytes) -> bool:
        """Whether the owner of the mesh has shut out whoever shows this certificate. It was `certified` once."""

    def verify(self, public: bytes, signature: bytes, message: bytes) -> bool:
        """Whether the owner of the raw public key signed `message`."""


def nobody_revoked() -> frozenset[bytes]:
    """The revocation list of a mesh that has revoked nothing."""
    return frozenset()


class CertificateVerifier:
    """Believes the certificates of one mesh, each verified once and then remembered until it expires.

    roots: its only root key, or all that it has had.  unix_time: the wall clock, which gossip uses for expiry
    only.  revoked: node ids and serials, asked on every use so that a revocation takes hold at once.
    """

    def __init__(
        self,
        roots: bytes | Roots,
        mesh_id: bytes,
        unix_time: Callable[[], float],
        revoked: Callable[[], frozenset[bytes]] = nobody_revoked,
    ) -> None:
        self._roots = roots if isinstance(roots, Roots) else Roots(roots)
        self._mesh_id = mesh_id
        self._unix_time = unix_time
        self._revoked = revoked
        self._known: dict[bytes, MemberCertificate] = {}

    def follow(self, roots: Roots) -> None:
        """Believe what these root keys signed from now on; what was believed before is verified anew."""
        if roots != self._roots:
            self._roots = roots
            self._known.clear()

    def certified(self, certificate: bytes) -> Certified | None:
        known = self._known.get(certificate)
        if known is None or self._unix_time() > known.expires:
            known = self._verify(certificate)
        if known is None or known.revoked_by(self._revoked()):
            return None
        return Certified(known.node, known.node_public, known.role, known.serial)

    def is_revoked(self, certificate: bytes) -> bool:
        revoked = self._revoked()
        return bool(revoked) and not names_in(certificate).isdisjoint(revoked)

    def verify(self, public: bytes, signature: bytes, message: bytes) -> bool:
        return identity.verify(public, signature, message)

    def _verify(self, certificate: bytes) -> MemberCertificate | None:
        try:
            verified = verify_certificate(certificate, self._roots, self._mesh_id, self._unix_time())
        except Refused:
            self._known.pop(certificate, None)
            return None
        while len(self._known) >= MAX_CACHED_CERTIFICATES:
            del self._known[next(iter(self._known))]
        self._known[certificate] = verified
        return verified
