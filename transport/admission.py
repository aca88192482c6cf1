"""The three messages by which two nodes prove who they are, bound to the TLS session they travel in.

    server -> client   nonce_s, pub_s, certificate_s, Sign_s("meshd-auth-S" | cb | mesh_id | pub_s | nonce_s)
    client -> server   pub_c, role, boot, certificate_c or join proof,
                       Sign_c("meshd-auth-C" | cb | mesh_id | pub_c | pub_s | nonce_s | nonce_c)
    server -> client   Sign_s("meshd-auth-F" | cb | pub_c | pub_s | nonce_c), a joiner's new certificate

`cb` is equal at both ends of one TLS session only, so a recorded message, or one passed on by somebody in the
middle, fails. The driver moves the bytes, gives up after 5 s, and sends `refusal_message` for every `Refused`
raised here. Every failure is a `Refused`: malformed bytes too, with the code MALFORMED.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from transport import wire
from transport.certificate import (
    MemberCertificate,
    Membership,
    Signer,
    issue,
    verify_certificate,
)
from transport.errors import RefusalCode, Refused
from transport.handshake import (
    BINDING_BYTES,
    MAX_MESSAGE_BYTES,
    NONCE_BYTES,
    ClientProof,
    JoinProof,
    ServerFinish,
    ServerHello,
    channel_binding,
    client_transcript,
    finish_transcript,
    read_message,
    refusal_message,
    server_transcript,
)
from transport.identity import NodeKey, RandomBytes, node_id, short, verify
from transport.interface import NodeId, Peer, Role
from transport.invite import Invite, join_proof, root_fingerprint
from transport.token_book import TokenBook

__all__ = [
    "BINDING_BYTES",
    "MAX_MESSAGE_BYTES",
    "Accepted",
    "Admitted",
    "ClientAdmission",
    "ServerAdmission",
    "Site",
    "channel_binding",
    "refusal_message",
]


def _no_boot(node: NodeId) -> int | None:
    return None


@dataclass(frozen=True, slots=True)
class Site:
    """What this endpoint brings to every handshake.

    membership: None while joining.  tokens, signer: only an issuer has them.  revoked: node ids and serials.
    highest_boot: the highest boot number that the mesh has seen of a node, None when it knows none.
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
    """

    peer: Peer
    reply: bytes
    redeemed: bytes | None


@dataclass(frozen=True, slots=True)
class Admitted:
    """The client's end. membership: new, when it has just joined.

    highest_boot: what the server knows of us; when not below our own boot, our boot file was lost and the
    next boot must be higher.
    """

    peer: Peer
    membership: Membership | None
    highest_boot: int | None


class ServerAdmission:
    """One handshake, at the end that accepted the connection."""

    def __init__(self, site: Site, binding: bytes, random_bytes: RandomBytes) -> None:
        """binding: of this TLS session, from `channel_binding`."""
        self._site = site
        self._binding = _checked_binding(binding)
        self._random_bytes = random_bytes
        self._nonce = random_bytes(NONCE_BYTES)

    def start(self) -> bytes:
        """Write message 1. Raises Refused while this node is in no mesh itself."""
        membership = self._membership()
        site = self._site
        transcript = server_transcript(self._binding, membership.mesh_id, site.key.public, self._nonce)
        hello = ServerHello(
            mesh_id=membership.mesh_id,
            mesh_name=membership.mesh_name,
            root_public=membership.root_public,
            public=site.key.public,
            certificate=membership.certificate,
            boot=site.boot,
            name=site.name,
            nonce=self._nonce,
            signature=site.key.sign(transcript),
        )
        return wire.encode(hello)

    def receive(self, message: bytes, now: float) -> Accepted:
        """Judge message 2: who asks, and message 3 to send. Raises Refused with the reason when it may not enter."""
        proof: ClientProof = read_message(message, ClientProof, None)
        self._check_key(proof)
        if proof.certificate is not None and proof.join is None:
            return self._admit_member(proof, proof.certificate, now)
        if proof.join is not None and proof.certificate is None:
            return self._admit_joiner(proof, proof.join, now)
        raise Refused(RefusalCode.MALFORMED, "expected either a membership certificate or a join proof")

    def _membership(self) -> Membership:
        if self._site.membership is None:
            raise Refused(RefusalCode.WRONG_MESH, "the node at this address has not joined a mesh itself yet")
        return self._site.membership

    def _check_key(self, proof: ClientProof) -> None:
        """The client holds the key it shows, in this very session, and that key is not shut out."""
        server_public = self._site.key.public
        transcript = client_transcript(
            self._binding, self._membership().mesh_id, proof.public, server_public, self._nonce, proof.nonce
        )
        if not verify(proof.public, proof.signature, transcript):
            raise _bad_signature("client")
        if proof.public == server_public:
            raise _same_key()
        if node_id(proof.public) in self._site.revoked:
            raise _revoked(node_id(proof.public))
        _check_name(proof.name)

    def _admit_member(self, proof: ClientProof, encoded: bytes, now: float) -> Accepted:
        membership = self._membership()
        certificate = verify_certificate(encoded, membership.root_public, membership.mesh_id, now)
        _check_holder(certificate, proof.public, self._site.revoked)
        if certificate.role is not proof.role:
            raise _wrong_role(certificate.role, proof.role)
        return self._accepted(proof, certificate, None, None)

    def _admit_joiner(self, proof: ClientProof, join: JoinProof, now: float) -> Accepted:
        site, membership = self._site, self._membership()
        if site.tokens is None or site.signer is None:
            raise Refused(
                RefusalCode.NOT_ISSUER,
                f"node {short(site.key.node)} cannot redeem this token, because another node made it; join at that one",
            )
        redemption = site.tokens.redeem(join.token_id, join.proof, self._binding, proof.public, proof.role, now)
        encoded = issue(site.signer, membership.mesh_id, proof.public, proof.role, (), now, self._random_bytes)
        certificate = verify_certificate(encoded, membership.root_public, membership.mesh_id, now)
        return self._accepted(proof, certificate, encoded, join.token_id if redemption.counted else None)

    def _accepted(
        self, proof: ClientProof, certificate: MemberCertificate, issued: bytes | None, redeemed: bytes | None
    ) -> Accepted:
        key = self._site.key
        peer = Peer(certificate.node, certificate.role, proof.boot, proof.name, certificate.encoded)
        transcript = finish_transcript(self._binding, proof.public, key.public, proof.nonce)
        reply = ServerFinish(key.sign(transcript), issued, self._site.highest_boot(peer.node))
        return Accepted(peer, wire.encode(reply), redeemed)


class ClientAdmission:
    """One handshake, at the end that dialled."""

    def __init__(
        self,
        site: Site,
        binding: bytes,
        random_bytes: RandomBytes,
        invite: Invite | None = None,
        expected: NodeId | None = None,
    ) -> None:
        """invite: used only where the site has no membership that still holds.  expected: whom we dialled, if known.

        ValueError when the site has neither membership nor invitation.
        """
        if site.membership is None and invite is None:
            raise ValueError("a node in no mesh needs an invitation to dial one")
        self._site = site
        self._binding = _checked_binding(binding)
        self._invite = invite
        self._expected = expected
        self._nonce = random_bytes(NONCE_BYTES)
        self._server: tuple[ServerHello, Peer] | None = None
        self._joining = False

    def receive(self, message: bytes, now: float) -> bytes | Admitted:
        """Judge message 1 and write message 2; on the second call, judge message 3.

        Raises Refused: the other end's refusal, or ours of it.
        """
        if self._server is None:
            return self._answer(read_message(message, ServerHello, None), now)
        hello, peer = self._server
        return self._finish(hello, peer, read_message(message, ServerFinish, peer.node), now)

    def _answer(self, hello: ServerHello, now: float) -> bytes:
        self._check_mesh(hello)
        certificate = verify_certificate(hello.certificate, hello.root_public, hello.mesh_id, now)
        _check_holder(certificate, hello.public, self._site.revoked)
        transcript = server_transcript(self._binding, hello.mesh_id, hello.public, hello.nonce)
        if not verify(hello.public, hello.signature, transcript):
            raise _bad_signature("server")
        self._check_expected(certificate.node)
        _check_name(hello.name)
        _check_name(hello.mesh_name)
        proof = self._proof(hello, now)
        self._server = hello, Peer(certificate.node, certificate.role, hello.boot, hello.name, hello.certificate)
        return wire.encode(proof)

    def _check_mesh(self, hello: ServerHello) -> None:
        """The server claims our mesh and its root; that it tells the truth is for its certificate to show."""
        membership, invite = self._site.membership, self._invite
        if membership is not None:
            if hello.mesh_id != membership.mesh_id:
                raise _other_mesh(membership)
            same_root = hello.root_public == membership.root_public
        else:
            assert invite is not None  # __init__ saw to it
            if hello.mesh_id != invite.mesh_id:
                raise Refused(
                    RefusalCode.WRONG_MESH,
                    "this token is for another mesh than the node at its address now belongs to; ask the owner "
                    "for a new one: meshd token create",
                )
            same_root = root_fingerprint(hello.root_public) == invite.root_fingerprint
        if not same_root:
            raise Refused(
                RefusalCode.BAD_CERTIFICATE,
                "the node at this address claims the right mesh but shows another root key; somebody may be posing "
                "as it, or the mesh was founded anew: ask the owner",
            )

    def _check_expected(self, node: NodeId) -> None:
        if node == self._site.key.node:
            raise _same_key()
        if self._expected is not None and node != self._expected:
            raise Refused(
                RefusalCode.BAD_PROOF,
                f"expected node {short(self._expected)} at this address, node {short(node)} answered",
            )

    def _proof(self, hello: ServerHello, now: float) -> ClientProof:
        site = self._site
        transcript = client_transcript(
            self._binding, hello.mesh_id, site.key.public, hello.public, hello.nonce, self._nonce
        )
        certificate, join = self._credential(now)
        self._joining = join is not None
        return ClientProof(
            public=site.key.public,
            role=site.role,
            boot=site.boot,
            name=site.name,
            nonce=self._nonce,
            signature=site.key.sign(transcript),
            certificate=certificate,
            join=join,
        )

    def _credential(self, now: float) -> tuple[bytes | None, JoinProof | None]:
        """Our certificate while it holds for our role; else, or before we have one, the invitation."""
        membership, invite = self._site.membership, self._invite
        if membership is not None:
            try:
                self._check_own(membership, now)
            except Refused:
                if invite is None or invite.mesh_id != membership.mesh_id:
                    raise
            else:
                return membership.certificate, None
        assert invite is not None  # __init__ saw to it
        return None, JoinProof(invite.token_id, join_proof(invite.secret, self._binding, self._site.key.public))

    def _check_own(self, membership: Membership, now: float) -> None:
        certificate = membership.verified(now)
        _check_holder(certificate, self._site.key.public, frozenset())
        if certificate.role is not self._site.role:
            raise _wrong_role(certificate.role, self._site.role)

    def _finish(self, hello: ServerHello, peer: Peer, finish: ServerFinish, now: float) -> Admitted:
        site = self._site
        transcript = finish_transcript(self._binding, site.key.public, hello.public, self._nonce)
        if not verify(hello.public, finish.signature, transcript):
            raise _bad_signature("server")
        # A certificate that we did not ask for could take capabilities from the one we have.
        if (finish.certificate is not None) is not self._joining:
            wanted = "a certificate" if self._joining else "no certificate"
            raise Refused(RefusalCode.MALFORMED, f"expected {wanted} from node {short(peer.node)} in its last message")
        if finish.certificate is None:
            return Admitted(peer, None, finish.highest_boot)
        membership = Membership(hello.mesh_id, hello.mesh_name, hello.root_public, finish.certificate)
        self._check_own(membership, now)
        return Admitted(peer, membership, finish.highest_boot)


def _checked_binding(binding: bytes) -> bytes:
    if len(binding) != BINDING_BYTES:
        raise ValueError(f"a channel binding is {BINDING_BYTES} bytes, got {len(binding)}")
    return binding


def _check_holder(certificate: MemberCertificate, public: bytes, revoked: frozenset[bytes]) -> None:
    """The certificate is that of the key shown, and not revoked."""
    if certificate.node_public != public:
        shown, named = short(node_id(public)), short(certificate.node)
        raise Refused(RefusalCode.BAD_CERTIFICATE, f"node {shown} showed the membership certificate of node {named}")
    if certificate.revoked_by(revoked):
        raise _revoked(certificate.node)


def _check_name(name: str) -> None:
    if not name.isprintable():
        raise Refused(RefusalCode.MALFORMED, "expected a name of printable characters")


def _revoked(node: NodeId) -> Refused:
    return Refused(RefusalCode.REVOKED, f"the owner of this mesh has revoked node {short(node)}")


def _wrong_role(certified: Role, declared: Role) -> Refused:
    return Refused(
        RefusalCode.BAD_CERTIFICATE,
        f"this node joined as {certified.value} and now runs as {declared.value}; start it as it joined, "
        f"or join again with a {declared.value} token: meshd token create --role {declared.value}",
    )


def _other_mesh(membership: Membership) -> Refused:
    return Refused(
        RefusalCode.WRONG_MESH,
        f"this node belongs to mesh {wire.printable(membership.mesh_name, 64)!r}, the node at this address to another; "
        "run meshd leave here before joining another mesh",
    )


def _bad_signature(end: str) -> Refused:
    return Refused(
        RefusalCode.BAD_PROOF,
        f"the {end}'s signature does not hold for this connection; somebody may be passing it on from another one",
    )


def _same_key() -> Refused:
    return Refused(
        RefusalCode.BAD_PROOF,
        "both ends have the same node key: this address leads back here, or the data directory was copied",
    )
