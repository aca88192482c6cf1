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

from typing import NamedTuple

from transport import wire
from transport.certificate import MemberCertificate, Membership, Signer, issue, verify_certificate
from transport.errors import RefusalCode, Refused
from transport.handshake import (
    BINDING_BYTES,
    MAX_MESSAGE_BYTES,
    NONCE_BYTES,
    ClientProof,
    JoinProof,
    PairingRequest,
    ServerFinish,
    ServerHello,
    channel_binding,
    client_transcript,
    finish_transcript,
    pairing_code,
    read_message,
    refusal_message,
    server_transcript,
)
from transport.identity import RandomBytes, node_id, short, verify
from transport.interface import NodeId, Peer, Role
from transport.invite import Invite, join_proof, root_fingerprint
from transport.rotation import Roots
from transport.site import (
    Accepted,
    Admitted,
    Asked,
    Forward,
    Site,
    bad_signature,
    check_holder,
    check_name,
    check_server,
    not_issuer,
    other_mesh,
    other_root,
    same_key,
    shut_out,
    takes_no_requests,
    wrong_role,
)

__all__ = [
    "BINDING_BYTES",
    "MAX_MESSAGE_BYTES",
    "Accepted",
    "Admitted",
    "Asked",
    "ClientAdmission",
    "Forward",
    "ServerAdmission",
    "Site",
    "admit_joiner",
    "channel_binding",
    "refusal_message",
]


class ServerAdmission:
    """One handshake, at the end that accepted the connection."""

    def __init__(self, site: Site, binding: bytes, random_bytes: RandomBytes) -> None:
        """binding: of this TLS session, from `channel_binding`."""
        self._site = site
        self._binding = _checked_binding(binding)
        self._random_bytes = random_bytes
        self._nonce = random_bytes(NONCE_BYTES)

    def revise(self, site: Site) -> None:
        """Go by `site` from now on: somebody may have been revoked while the peer took its time."""
        self._site = site

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
            successions=membership.successions,
        )
        return wire.encode(hello)

    def receive(self, message: bytes, now: float) -> Accepted:
        """Judge message 2 where tokens of other issuers are not passed on. Raises Refused: `judge`, or NOT_ISSUER."""
        judged = self.judge(message, now)
        if isinstance(judged, Accepted):
            return judged
        raise not_issuer(self._site.key.node) if isinstance(judged, Forward) else takes_no_requests()

    def judge(self, message: bytes, now: float) -> Accepted | Forward | Asked:
        """Judge message 2: who asks, and message 3 to send. Raises Refused with the reason when it may not enter.

        After a `Forward`: ask the issuer, then `complete`. After an `Asked`: ask a person, then `let_in`.
        """
        proof = read_message(message, ClientProof | PairingRequest, None)
        self._check_key(proof)
        if isinstance(proof, PairingRequest):
            return self._asked(proof)
        if proof.certificate is not None and proof.join is None:
            return self._admit_member(proof, proof.certificate, now)
        if proof.join is not None and proof.certificate is None:
            return self._admit_joiner(proof, proof.join, now)
        raise Refused(RefusalCode.MALFORMED, "expected either a membership certificate or a join proof")

    def complete(self, forward: Forward, certificate: bytes, now: float) -> Accepted:
        """Admit a joiner with the certificate that its token's issuer sent. Raises Refused when that does not hold."""
        membership, proof = self._membership(), forward.proof
        try:
            issued = verify_certificate(certificate, membership.roots(), membership.mesh_id, now)
            check_holder(issued, proof.public, self._site.revoked)
        except Refused as error:
            raise _bad_answer(forward.issuer) from error
        if issued.role is not proof.role:
            raise _bad_answer(forward.issuer)
        return self._accepted(proof, issued, certificate, None)

    def let_in(self, asked: Asked, now: float) -> Accepted:
        """Admit a node of which a person said that it may come in. Raises Refused when this node cannot any more."""
        site, membership, request = self._site, self._membership(), asked.request
        if site.signer is None:
            raise takes_no_requests()
        _check_signer(site.signer, site.revoked, now)
        encoded = issue(site.signer, membership.mesh_id, request.public, request.role, (), now, self._random_bytes)
        certificate = verify_certificate(encoded, membership.roots(), membership.mesh_id, now)
        return self._accepted(request, certificate, encoded, None)

    def _asked(self, request: PairingRequest) -> Asked:
        site, membership = self._site, self._membership()
        if site.signer is None:
            raise takes_no_requests()
        if request.role is Role.OWNER:
            raise Refused(RefusalCode.MALFORMED, "expected a node that wants to be a member or a client, got an owner")
        keys = membership.root_public, site.key.public, request.public
        return Asked(request, pairing_code(self._binding, membership.mesh_id, *keys))

    def _membership(self) -> Membership:
        if self._site.membership is None:
            raise Refused(RefusalCode.WRONG_MESH, "the node at this address has not joined a mesh itself yet")
        return self._site.membership

    def _check_key(self, proof: ClientProof | PairingRequest) -> None:
        """The client holds the key it shows, in this very session, and that key is not shut out."""
        server_public = self._site.key.public
        transcript = client_transcript(
            self._binding, self._membership().mesh_id, proof.public, server_public, self._nonce, proof.nonce
        )
        if not verify(proof.public, proof.signature, transcript):
            raise bad_signature("client")
        if proof.public == server_public:
            raise same_key()
        if node_id(proof.public) in self._site.revoked:
            raise shut_out(node_id(proof.public))
        check_name(proof.name)

    def _admit_member(self, proof: ClientProof, encoded: bytes, now: float) -> Accepted:
        membership = self._membership()
        roots = membership.roots().extended(membership.mesh_id, proof.successions)
        certificate = verify_certificate(encoded, roots, membership.mesh_id, now)
        check_holder(certificate, proof.public, self._site.revoked)
        if certificate.role is not proof.role:
            raise wrong_role(certificate.role, proof.role)
        news = membership.under(roots) if roots.current != membership.root_public else None
        return self._accepted(proof, certificate, None, None, news)

    def _admit_joiner(self, proof: ClientProof, join: JoinProof, now: float) -> Accepted | Forward:
        site, membership = self._site, self._membership()
        is_ours = site.tokens is not None and site.tokens.knows(join.token_id)
        if not is_ours and join.issuer is not None and join.issuer != site.key.node:
            return Forward(NodeId(join.issuer), proof, self._binding, self._nonce)
        encoded, redeemed = admit_joiner(site, proof, self._binding, now, self._random_bytes)
        certificate = verify_certificate(encoded, membership.roots(), membership.mesh_id, now)
        return self._accepted(proof, certificate, encoded, redeemed)

    def _accepted(
        self,
        proof: ClientProof | PairingRequest,
        certificate: MemberCertificate,
        issued: bytes | None,
        redeemed: bytes | None,
        news: Membership | None = None,
    ) -> Accepted:
        key = self._site.key
        peer = Peer(certificate.node, certificate.role, proof.boot, proof.name, certificate.encoded)
        transcript = finish_transcript(self._binding, proof.public, key.public, proof.nonce)
        reply = ServerFinish(key.sign(transcript), issued, self._site.highest_boot(peer.node))
        return Accepted(peer, wire.encode(reply), redeemed, news)


class _Server(NamedTuple):
    """Who answered. roots: ours, and what its hello taught us of those that follow."""

    hello: ServerHello
    peer: Peer
    roots: Roots


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
        self._server: _Server | None = None
        self._joining = False

    def receive(self, message: bytes, now: float) -> bytes | Admitted:
        """Judge message 1 and write message 2; on the second call, judge message 3.

        Raises Refused: the other end's refusal, or ours of it.
        """
        if self._server is None:
            return self._answer(read_message(message, ServerHello, None), now)
        return self._finish(self._server, read_message(message, ServerFinish, self._server.peer.node), now)

    def _answer(self, hello: ServerHello, now: float) -> bytes:
        roots = self._check_mesh(hello, now)
        peer = check_server(hello, roots, self._binding, self._site.revoked, now)
        self._check_expected(peer.node)
        proof = self._proof(hello, roots, now)
        self._server = _Server(hello, peer, roots)
        return wire.encode(proof)

    def _check_mesh(self, hello: ServerHello, now: float) -> Roots:
        """The server claims our mesh under a root we know, or one that follows it; with which to verify all else.

        That it tells the truth is for its certificate to show.
        """
        membership, invite = self._site.membership, self._invite
        if membership is not None:
            if hello.mesh_id != membership.mesh_id:
                raise other_mesh(membership)
            roots = membership.roots().extended(hello.mesh_id, hello.successions)
            if roots.seniority(hello.root_public) < 0:
                raise other_root()
            return roots
        assert invite is not None  # __init__ saw to it
        if hello.mesh_id != invite.mesh_id:
            raise Refused(
                RefusalCode.WRONG_MESH,
                "this token is for another mesh than the node at its address now belongs to; ask the owner "
                "for a new one: meshd token create",
            )
        roots = Roots.of(hello.mesh_id, hello.root_public, hello.successions)
        _check_fingerprint(roots, invite, now)
        return roots

    def _check_expected(self, node: NodeId) -> None:
        if node == self._site.key.node:
            raise same_key()
        if self._expected is not None and node != self._expected:
            raise Refused(
                RefusalCode.BAD_PROOF,
                f"expected node {short(self._expected)} at this address, node {short(node)} answered",
            )

    def _proof(self, hello: ServerHello, roots: Roots, now: float) -> ClientProof:
        site = self._site
        transcript = client_transcript(
            self._binding, hello.mesh_id, site.key.public, hello.public, hello.nonce, self._nonce
        )
        certificate, join = self._credential(roots, now)
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
            successions=roots.encoded if certificate and hello.root_public != roots.current else (),
        )

    def _credential(self, roots: Roots, now: float) -> tuple[bytes | None, JoinProof | None]:
        """Our certificate while it holds for our role; else, or before we have one, the invitation."""
        membership, invite = self._site.membership, self._invite
        if membership is not None:
            try:
                self._check_own(membership, roots, now)
            except Refused:
                if invite is None or invite.mesh_id != membership.mesh_id:
                    raise
            else:
                return membership.certificate, None
        assert invite is not None  # __init__ saw to it
        proof = join_proof(invite.secret, self._binding, self._site.key.public)
        return None, JoinProof(invite.token_id, proof, invite.issuer)

    def _check_own(self, membership: Membership, roots: Roots, now: float) -> None:
        certificate = verify_certificate(membership.certificate, roots, membership.mesh_id, now)
        check_holder(certificate, self._site.key.public, frozenset())
        if certificate.role is not self._site.role:
            raise wrong_role(certificate.role, self._site.role)

    def _finish(self, server: _Server, finish: ServerFinish, now: float) -> Admitted:
        site, hello, peer, roots = self._site, server.hello, server.peer, server.roots
        transcript = finish_transcript(self._binding, site.key.public, hello.public, self._nonce)
        if not verify(hello.public, finish.signature, transcript):
            raise bad_signature("server")
        # A certificate that we did not ask for could take capabilities from the one we have.
        if (finish.certificate is not None) is not self._joining:
            wanted = "a certificate" if self._joining else "no certificate"
            raise Refused(RefusalCode.MALFORMED, f"expected {wanted} from node {short(peer.node)} in its last message")
        if finish.certificate is None:
            return Admitted(peer, self._news(roots), finish.highest_boot)
        membership = Membership(hello.mesh_id, hello.mesh_name, roots.current, finish.certificate, roots.encoded)
        self._check_own(membership, roots, now)
        return Admitted(peer, membership, finish.highest_boot)

    def _news(self, roots: Roots) -> Membership | None:
        membership = self._site.membership
        if membership is None or membership.root_public == roots.current:
            return None
        return membership.under(roots)


def admit_joiner(
    site: Site, proof: ClientProof, binding: bytes, now: float, random_bytes: RandomBytes
) -> tuple[bytes, bytes | None]:
    """Redeem a joiner's token at its issuer: its new certificate, and the token if it lost a use.

    binding: of the TLS session that the joiner shares with whoever received `proof`. Raises Refused.
    """
    join, membership = proof.join, site.membership
    if site.tokens is None or site.signer is None or join is None or membership is None:
        raise not_issuer(site.key.node)
    _check_signer(site.signer, site.revoked, now)
    redemption = site.tokens.redeem(join.token_id, join.proof, binding, proof.public, proof.role, now, site.revoked)
    encoded = issue(site.signer, membership.mesh_id, proof.public, proof.role, (), now, random_bytes)
    return encoded, join.token_id if redemption.counted else None


def _check_signer(signer: Signer, revoked: frozenset[bytes], now: float) -> None:
    """A delegate whose own certificate ended would spend a use on one that holds nowhere."""
    own = signer.certificate
    if own is not None and (now >= own.expires or own.revoked_by(revoked)):
        raise Refused(
            RefusalCode.NOT_ISSUER,
            f"node {short(own.node)} made this token and may admit nobody any more, because its own membership has "
            "ended; ask the owner for a token: meshd token create",
        )


def _checked_binding(binding: bytes) -> bytes:
    if len(binding) != BINDING_BYTES:
        raise ValueError(f"a channel binding is {BINDING_BYTES} bytes, got {len(binding)}")
    return binding


def _check_fingerprint(roots: Roots, invite: Invite, now: float) -> None:
    """The token was made under a root of this mesh that counts."""
    made_under = [root for root in roots.every() if root_fingerprint(root.public) == invite.root_fingerprint]
    if not made_under:
        raise other_root()
    if not made_under[0].counts(now):
        raise Refused(
            RefusalCode.TOKEN_EXPIRED,
            "this token is from before the mesh replaced its root key, and that is too long ago; ask the owner for a "
            "new one: meshd token create",
        )


def _bad_answer(issuer: NodeId) -> Refused:
    return Refused(
        RefusalCode.BAD_CERTIFICATE,
        f"node {short(issuer)}, which made this token, answered with a certificate that does not hold here; try again, "
        "or join at that node",
    )
