"""What an endpoint brings to a handshake, what comes out of one, and the words in which it says no."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from transport import wire
from transport.certificate import MemberCertificate, Membership, Signer, verify_certificate
from transport.errors import RefusalCode, Refused
from transport.handshake import ClientProof, PairingRequest, ServerHello, server_transcript
from transport.identity import NodeKey, node_id, short, verify
from transport.interface import NodeId, Peer, Role
from transport.rotation import Roots
from transport.token_book import TokenBook


def _no_boot(node: NodeId) -> int | None:
    return None


@dataclass(frozen=True, slots=True)
class Site:
    """What this endpoint brings to every handshake.

    membership: None while joining.  tokens, signer: only an issuer has them.  revoked: node ids, serials and
    token ids.  highest_boot: the highest boot number that the mesh has seen of a node, None when it knows none.
    """

    key: NodeKey
    name: str
    boot: int
    membership: Membership | None
    role: Role
    tokens: TokenBook | None = None
    revoked: frozenset[bytes] = field(default_factory=frozenset)
    signer: Signer | None = None
    highest_boot: Callable[[NodeId], int | None] = _no_boot


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server's end: `peer` is admitted once `reply` is sent.

    redeemed: the token that lost a use; the token book must be on disk before `reply` leaves.
    membership: our own, when the peer brought news of a new root key; to be kept.
    """

    peer: Peer
    reply: bytes
    redeemed: bytes | None
    membership: Membership | None = None


@dataclass(frozen=True, slots=True)
class Forward:
    """The server's end: another node must judge this joiner's token. `forwarding` says how to ask `issuer`.

    binding, nonce: of the handshake, which the joiner's proof and signature cover.
    """

    issuer: NodeId
    proof: ClientProof
    binding: bytes
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """The server's end: a person has to decide about a node that has no token. `pairing` keeps it until then.

    code: as `pairing_code` names this very session.
    """

    request: PairingRequest
    code: str


@dataclass(frozen=True, slots=True)
class Admitted:
    """The client's end. membership: new, when it has just joined or heard of a new root key; to be kept.

    highest_boot: what the server knows of us; when not below our own boot, our boot file was lost and the
    next boot must be higher.
    """

    peer: Peer
    membership: Membership | None
    highest_boot: int | None


def check_holder(certificate: MemberCertificate, public: bytes, revoked: frozenset[bytes]) -> None:
    """The certificate is that of the key shown, and not revoked. Raises Refused."""
    if certificate.node_public != public:
        shown, named = short(node_id(public)), short(certificate.node)
        raise Refused(RefusalCode.BAD_CERTIFICATE, f"node {shown} showed the membership certificate of node {named}")
    if certificate.revoked_by(revoked):
        raise shut_out(certificate.node)


def check_server(hello: ServerHello, roots: Roots, binding: bytes, revoked: frozenset[bytes], now: float) -> Peer:
    """Message 1 is of a member, under one of `roots`, that speaks in this very session. Raises Refused."""
    certificate = verify_certificate(hello.certificate, roots, hello.mesh_id, now)
    check_holder(certificate, hello.public, revoked)
    if not verify(hello.public, hello.signature, server_transcript(binding, hello.mesh_id, hello.public, hello.nonce)):
        raise bad_signature("server")
    check_name(hello.name)
    check_name(hello.mesh_name)
    return Peer(certificate.node, certificate.role, hello.boot, hello.name, hello.certificate)


def check_name(name: str) -> None:
    """A name can be shown on a terminal. Raises Refused."""
    if not name.isprintable():
        raise Refused(RefusalCode.MALFORMED, "expected a name of printable characters")


def shut_out(node: NodeId) -> Refused:
    return Refused(RefusalCode.REVOKED, f"the owner of this mesh has revoked node {short(node)}")


def wrong_role(certified: Role, declared: Role) -> Refused:
    return Refused(
        RefusalCode.BAD_CERTIFICATE,
        f"this node joined as {certified.value} and now runs as {declared.value}; start it as it joined, "
        f"or join again with a {declared.value} token: meshd token create --role {declared.value}",
    )


def other_mesh(membership: Membership) -> Refused:
    return Refused(
        RefusalCode.WRONG_MESH,
        f"this node belongs to mesh {wire.printable(membership.mesh_name, 64)!r}, the node at this address to another; "
        "run meshd leave here before joining another mesh",
    )


def other_root() -> Refused:
    return Refused(
        RefusalCode.BAD_CERTIFICATE,
        "the node at this address claims the right mesh but shows another root key; somebody may be posing "
        "as it, or the mesh was founded anew: ask the owner",
    )


def not_issuer(node: NodeId) -> Refused:
    return Refused(
        RefusalCode.NOT_ISSUER,
        f"node {short(node)} cannot redeem this token, because another node made it; join at that one",
    )


def takes_no_requests() -> Refused:
    return Refused(
        RefusalCode.NOT_ISSUER,
        "the node at this address may let nobody in from where you are; ask at a node of the mesh's owner on your own "
        "network, or for a token: meshd token create",
    )


def bad_signature(end: str) -> Refused:
    return Refused(
        RefusalCode.BAD_PROOF,
        f"the {end}'s signature does not hold for this connection; somebody may be passing it on from another one",
    )


def same_key() -> Refused:
    return Refused(
        RefusalCode.BAD_PROOF,
        "both ends have the same node key: this address leads back here, or the data directory was copied",
    )
