"""Membership: the certificate that makes a node part of a mesh, and what a node keeps of its mesh on disk.

Root and delegates issue certificates (`issuance`); while neither can be reached, two members renew one
(`countersigned`). Here both kinds are read, against the roots that the mesh has had (`rotation`).
"""

from __future__ import annotations

import msgspec

from transport import wire
from transport.countersigned import countersigned_names, is_countersigned, verify_countersigned
from transport.identity import NodeKey, RandomBytes
from transport.interface import Role
from transport.issuance import (
    LIFETIME_S,
    MAX_CERTIFICATE_BYTES,
    Capability,
    EncodedCertificate,
    MemberCertificate,
    Signer,
    check_time,
    issue,
    issued_names,
    verify_issued,
)
from transport.rotation import Roots, Successions, succeed
from transport.validity import CLOCK_TOLERANCE_S, span_text

__all__ = [
    "CLOCK_TOLERANCE_S",
    "LIFETIME_S",
    "MAX_CERTIFICATE_BYTES",
    "MESH_ID_BYTES",
    "Capability",
    "EncodedCertificate",
    "MemberCertificate",
    "Membership",
    "Signer",
    "delegate_signer",
    "found_mesh",
    "issue",
    "names_in",
    "rotate_root",
    "span_text",
    "verify_certificate",
]

MESH_ID_BYTES = 16
_MAX_MEMBERSHIP_BYTES = 8192


class Membership(msgspec.Struct, frozen=True):
    """What a node keeps on disk once it belongs to a mesh. successions: how `root_public` came into office."""

    mesh_id: wire.Bytes16
    mesh_name: wire.ShortText
    root_public: wire.Bytes32
    certificate: EncodedCertificate
    successions: Successions = ()

    def to_bytes(self) -> bytes:
        return wire.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Membership:
        """Read what `to_bytes` wrote. Raises ProtocolError when the file is damaged."""
        return wire.decode(data, cls, peer=None, max_bytes=_MAX_MEMBERSHIP_BYTES, source="the membership file")

    def roots(self) -> Roots:
        """The roots to verify with. Raises Refused when the chain on disk is not one."""
        return Roots.of(self.mesh_id, self.root_public, self.successions)

    def verified(self, now: float) -> MemberCertificate:
        """This node's own certificate. Raises Refused as `verify_certificate` does."""
        return verify_certificate(self.certificate, self.roots(), self.mesh_id, now)

    def under(self, roots: Roots) -> Membership:
        """The same membership, under roots that have gone on."""
        return msgspec.structs.replace(self, root_public=roots.current, successions=roots.encoded)

    def renewed(self, certificate: bytes) -> Membership:
        """The same membership with a newer certificate."""
        return msgspec.structs.replace(self, certificate=certificate)


def found_mesh(name: str, root: NodeKey, node: NodeKey, now: float, random_bytes: RandomBytes) -> Membership:
    """Make a new mesh whose owner is `node`. ValueError when the name is empty, too long or unprintable."""
    if not name or len(name) > 64 or not name.isprintable():
        raise ValueError(f"a mesh name is 1 to 64 printable characters, got {name[:80]!r}")
    mesh_id = random_bytes(MESH_ID_BYTES)
    certificate = issue(Signer(root), mesh_id, node.public, Role.OWNER, ("can_invite",), now, random_bytes)
    return Membership(mesh_id, name, root.public, certificate)


def rotate_root(
    membership: Membership, old: NodeKey, new: NodeKey, now: float, random_bytes: RandomBytes
) -> Membership:
    """Put `new` in the place of root `old`: the owner's membership under it, its own certificate renewed.

    Keep `new` on disk before the result, and `old` until the owner has its next revocation list signed.
    ValueError when `old` is not this mesh's root. Raises Refused when the owner's own certificate does not hold.
    """
    if old.public != membership.root_public:
        raise ValueError("this is not the root key of this mesh; restore the right one from its backup")
    own = membership.verified(now)
    link = succeed(old, new, membership.mesh_id, now)
    roots = membership.roots().extended(membership.mesh_id, [link])
    caps = tuple(sorted(own.caps))
    certificate = issue(Signer(new), membership.mesh_id, own.node_public, own.role, caps, now, random_bytes)
    return membership.under(roots).renewed(certificate)


def delegate_signer(key: NodeKey, membership: Membership, now: float) -> Signer | None:
    """How a node signs whose own certificate lets it invite; None for every other node.

    Raises Refused when the certificate does not hold.
    """
    own = membership.verified(now)
    return Signer(key, own) if "can_invite" in own.caps else None


def verify_certificate(encoded: bytes, root_public: bytes | Roots, mesh_id: bytes, now: float) -> MemberCertificate:
    """Check an encoded certificate against the mesh it should belong to.

    root_public: the mesh's only root, or all that it has had.
    Raises Refused: WRONG_MESH, BAD_CERTIFICATE (damaged, forged, from the future) or EXPIRED_CERTIFICATE.
    Clocks may differ by ten minutes.
    """
    roots = root_public if isinstance(root_public, Roots) else Roots(root_public)
    verify = verify_countersigned if is_countersigned(encoded) else verify_issued
    certificate = verify(encoded, roots, mesh_id, now)
    check_time(certificate, now)
    return certificate


def names_in(encoded: bytes) -> frozenset[bytes]:
    """As `MemberCertificate.names`, of a certificate that was verified before: how a live peer stands.

    Raises Refused when it cannot be read.
    """
    return countersigned_names(encoded) if is_countersigned(encoded) else issued_names(encoded)
