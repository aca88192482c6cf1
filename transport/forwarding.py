"""Joining through any member: the question that it puts to a token's issuer on a `join/1` stream, and the answer.

    joiner -> member   the join proof, as in every handshake, with the issuer's id beside it
    member -> issuer   that proof, and the session it was made for: binding, nonce, the member's own key
    issuer -> member   the joiner's certificate, or a refusal that the member hands on word for word

The issuer has no session with the joiner, so the member vouches for the binding. That is safe, because lying
gains it nothing:

- What it asks for is a certificate for the key under the proof. HMAC(secret, binding | key) cannot be turned into
  one for its own key without the secret, and a certificate for the joiner's key serves the joiner only.
- It knows one proof at most: the one made for its own session, since the joiner's signature covers the binding and
  the member's key, and the issuer checks both against the member that asks. A proof that another member saw, or
  that was made in a session with the issuer itself, does not pass.
- A question asked twice takes no second use, as with a reply that got lost.
- It can keep the answer to itself. The joiner then tries another address; its use is still its own.

What it could do to a mesh is what any member can: let somebody in on its own connection. It cannot make others
do so. A client may not forward at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from transport import wire
from transport.admission import admit_joiner
from transport.budget import Allowance, Budget
from transport.certificate import EncodedCertificate
from transport.errors import RefusalCode, Refused
from transport.handshake import MAX_MESSAGE_BYTES, ClientProof, client_transcript, read_message
from transport.identity import RandomBytes, node_id, short, verify
from transport.interface import NodeId, Peer, Role
from transport.site import Forward, Site, bad_signature, not_issuer, same_key, shut_out

PROTOCOL = "join/1"
DEADLINE_S = 3.0
"""Of question and answer: the joiner waits 5 s for the whole handshake."""

MAX_FORWARD_BYTES = MAX_MESSAGE_BYTES + 256
MAX_ANSWER_BYTES = MAX_MESSAGE_BYTES
MAX_IN_FLIGHT = 8
BURST = 32
PER_SECOND = 2.0
ALLOWANCE = Allowance(MAX_IN_FLIGHT, BURST, PER_SECOND)


class ForwardedJoin(msgspec.Struct, frozen=True, tag_field="kind", tag="forwarded-join"):
    """The member's question. binding, nonce: of its session with the joiner."""

    server_public: wire.Bytes32
    binding: wire.Bytes32
    nonce: wire.Bytes32
    proof: ClientProof


class JoinGranted(msgspec.Struct, frozen=True, tag_field="kind", tag="join-granted"):
    """The issuer's yes. Its no is a `handshake.Refusal`."""

    certificate: EncodedCertificate


@dataclass(frozen=True, slots=True)
class Grant:
    """redeemed: as in `Accepted`; the token book must be on disk before `reply` leaves."""

    reply: bytes
    redeemed: bytes | None


class ForwardBudget:
    """How much of others' time strangers may take through this node: 8 questions at once, 32 in a burst, 2 a second.

    An issuer allows as much to each member that asks it.
    """

    def __init__(self) -> None:
        self._budget = Budget(ALLOWANCE)

    def take(self, now: float) -> None:
        """Count one question that begins. Raises Refused with BUSY when there are too many."""
        if not self._budget.take(now):
            raise too_many()

    def give_back(self) -> None:
        """The question has been answered, or given up."""
        self._budget.give_back()


def ask_issuer(forward: Forward, site: Site) -> bytes:
    """Write the question for `forward.issuer`."""
    return wire.encode(ForwardedJoin(site.key.public, forward.binding, forward.nonce, forward.proof))


def answer_forwarded(site: Site, asker: Peer, message: bytes, now: float, random_bytes: RandomBytes) -> Grant:
    """Judge, as the issuer, what the member `asker` passed on. Every failure is Refused, to be said to the asker."""
    asked = read_message(message, ForwardedJoin, asker.node, MAX_FORWARD_BYTES)
    _check_asker(asked, asker)
    _check_joiner(asked, site)
    encoded, redeemed = admit_joiner(site, asked.proof, asked.binding, now, random_bytes)
    return Grant(wire.encode(JoinGranted(encoded)), redeemed)


def read_answer(message: bytes, issuer: NodeId) -> bytes:
    """The joiner's certificate, for `ServerAdmission.complete`. Raises Refused: the issuer's words, or MALFORMED."""
    return read_message(message, JoinGranted, issuer).certificate


def out_of_reach(issuer: NodeId) -> Refused:
    """What a joiner hears when no answer came from the node that made its token."""
    return Refused(
        RefusalCode.NOT_ISSUER,
        f"this token can be redeemed only by node {short(issuer)}, which made it and cannot be reached now; "
        "start that node, or ask for a token of one that runs: meshd token create",
    )


def too_many() -> Refused:
    """What is said to one question too many."""
    return Refused(RefusalCode.BUSY, "too many nodes are joining through this one; try again in a minute")


def _check_asker(asked: ForwardedJoin, asker: Peer) -> None:
    if asker.role is Role.CLIENT:
        raise Refused(RefusalCode.BAD_PROOF, f"node {short(asker.node)} is a client and cannot forward a joiner")
    if node_id(asked.server_public) != asker.node:
        raise Refused(RefusalCode.BAD_PROOF, f"node {short(asker.node)} forwarded a proof made for another node")


def _check_joiner(asked: ForwardedJoin, site: Site) -> None:
    proof, membership = asked.proof, site.membership
    if membership is None or proof.join is None or proof.certificate is not None:
        raise not_issuer(site.key.node)
    transcript = client_transcript(
        asked.binding, membership.mesh_id, proof.public, asked.server_public, asked.nonce, proof.nonce
    )
    if not verify(proof.public, proof.signature, transcript):
        raise bad_signature("client")
    if proof.public in (site.key.public, asked.server_public):
        raise same_key()
    if node_id(proof.public) in site.revoked:
        raise shut_out(node_id(proof.public))
