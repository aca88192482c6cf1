"""Joining through a member that did not make the token."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.meshes import BINDING, DAY_S, NOW, Mesh
from transport import wire
from transport.admission import Accepted, Admitted, ClientAdmission, ServerAdmission
from transport.certificate import LIFETIME_S, Signer, issue
from transport.errors import RefusalCode, Refused
from transport.forwarding import (
    BURST,
    MAX_FORWARD_BYTES,
    MAX_IN_FLIGHT,
    ForwardBudget,
    ForwardedJoin,
    JoinGranted,
    answer_forwarded,
    ask_issuer,
    out_of_reach,
    read_answer,
)
from transport.handshake import JoinProof, client_transcript, refusal_message
from transport.interface import Peer, Role
from transport.invite import Invite, join_proof
from transport.site import Forward, Site

OTHER_BINDING = b"\x08" * 32


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def as_peer(site: Site) -> Peer:
    """A node as the issuer sees it, on a connection that admitted it."""
    assert site.membership is not None
    return Peer(site.key.node, site.role, site.boot, site.name, site.membership.certificate)


class Detour:
    """A joiner at a member, up to where that has to ask the issuer."""

    def __init__(self, mesh: Mesh, member: Site, joiner: Site, invite: Invite, binding: bytes = BINDING) -> None:
        self.mesh, self.member = mesh, member
        self.server = ServerAdmission(member, binding, mesh.dice)
        self.client = ClientAdmission(joiner, binding, mesh.dice, invite)
        proof = self.client.receive(self.server.start(), NOW)
        assert isinstance(proof, bytes)
        forward = self.server.judge(proof, NOW)
        assert isinstance(forward, Forward)
        self.forward = forward

    def question(self) -> bytes:
        return ask_issuer(self.forward, self.member)

    def asked(self) -> ForwardedJoin:
        return wire.decode(self.question(), ForwardedJoin, peer=None, max_bytes=MAX_FORWARD_BYTES)

    def finish(self, answer: bytes) -> tuple[Accepted, Admitted]:
        accepted = self.server.complete(self.forward, read_answer(answer, self.forward.issuer), NOW)
        admitted = self.client.receive(accepted.reply, NOW)
        assert isinstance(admitted, Admitted)
        return accepted, admitted


def refusal(mesh: Mesh, issuer: Site, asker: Site, question: bytes, now: float = NOW) -> Refused:
    with pytest.raises(Refused) as caught:
        answer_forwarded(issuer, as_peer(asker), question, now, mesh.dice)
    assert str(caught.value).isprintable()
    return caught.value


@pytest.mark.parametrize("role", [Role.MEMBER, Role.CLIENT])
def test_a_joiner_enters_by_any_member(mesh: Mesh, role: Role) -> None:
    invite, joiner, member = mesh.invite(role=role), mesh.joiner_site(role), mesh.member_site()
    detour = Detour(mesh, member, joiner, invite)
    assert detour.forward.issuer == mesh.owner.node

    grant = answer_forwarded(mesh.owner_site(), as_peer(member), detour.question(), NOW, mesh.dice)
    accepted, admitted = detour.finish(grant.reply)

    assert grant.redeemed == invite.token_id
    assert (accepted.peer.node, accepted.peer.role, accepted.redeemed) == (joiner.key.node, role, None)
    assert (admitted.peer.node, admitted.peer.role) == (member.key.node, Role.MEMBER)
    assert admitted.membership is not None
    assert admitted.membership.verified(NOW).node == joiner.key.node
    again, _ = mesh.shake(mesh.owner_site(), replace(joiner, membership=admitted.membership))
    assert again.peer.role is role


def test_a_token_of_a_delegate_is_redeemed_at_the_delegate_through_the_owner(mesh: Mesh) -> None:
    delegate, owner, joiner = mesh.delegate_site(), mesh.owner_site(), mesh.joiner_site()
    invite = mesh.invite_of(delegate)
    detour = Detour(mesh, owner, joiner, invite)
    assert detour.forward.issuer == delegate.key.node
    grant = answer_forwarded(delegate, as_peer(owner), detour.question(), NOW, mesh.dice)
    _, admitted = detour.finish(grant.reply)
    assert admitted.membership is not None
    own = admitted.membership.verified(NOW)
    assert own.delegate is not None
    assert own.delegate.node == delegate.key.node


def test_a_question_asked_twice_takes_one_use(mesh: Mesh) -> None:
    invite, member = mesh.invite(uses=2), mesh.member_site()
    detour = Detour(mesh, member, mesh.joiner_site(), invite)
    for redeemed in (invite.token_id, None):
        grant = answer_forwarded(mesh.owner_site(), as_peer(member), detour.question(), NOW, mesh.dice)
        assert grant.redeemed == redeemed
    assert mesh.book.list(NOW)[0].uses_left == 1


def test_a_joiner_whose_member_kept_the_answer_enters_elsewhere_at_no_cost(mesh: Mesh) -> None:
    invite, joiner, silent = mesh.invite(uses=1), mesh.joiner_site(), mesh.member_site()
    question = Detour(mesh, silent, joiner, invite).question()
    answer_forwarded(mesh.owner_site(), as_peer(silent), question, NOW, mesh.dice)
    accepted, _ = mesh.shake(mesh.owner_site(), joiner, invite)
    assert (accepted.peer.node, accepted.redeemed) == (joiner.key.node, None)


# What a lying member tries


def test_a_member_cannot_turn_a_joiners_proof_into_a_certificate_of_its_own(mesh: Mesh) -> None:
    thief = mesh.member_site()
    accomplice = mesh.joiner_site()
    invite = mesh.invite()
    seen = Detour(mesh, thief, mesh.joiner_site(), invite).asked()
    guessed = msgspec.structs.replace(invite, secret=b"?" * 16)
    own = Detour(mesh, thief, accomplice, guessed).asked()
    swapped = msgspec.structs.replace(own, proof=msgspec.structs.replace(own.proof, join=seen.proof.join))
    refused = refusal(mesh, mesh.owner_site(), thief, wire.encode(swapped))
    assert refused.code is RefusalCode.BAD_PROOF
    assert mesh.book.list(NOW)[0].uses_left == 1


def test_a_member_cannot_put_its_own_key_into_the_question(mesh: Mesh) -> None:
    thief = mesh.member_site()
    asked = Detour(mesh, thief, mesh.joiner_site(), mesh.invite()).asked()
    for public in (thief.key.public, mesh.owner.public, mesh.key().public):
        edited = msgspec.structs.replace(asked, proof=msgspec.structs.replace(asked.proof, public=public))
        assert refusal(mesh, mesh.owner_site(), thief, wire.encode(edited)).code is RefusalCode.BAD_PROOF


@pytest.mark.parametrize("whose", ["the member's", "the issuer's"])
def test_a_joiner_is_neither_member_nor_issuer(mesh: Mesh, whose: str) -> None:
    """They have their certificates, and a token is for somebody else."""
    member, stranger = mesh.member_site(), mesh.joiner_site()
    key = member.key if whose == "the member's" else mesh.owner
    invite = mesh.invite()
    asked = Detour(mesh, member, stranger, invite).asked()
    transcript = client_transcript(
        BINDING, mesh.membership.mesh_id, key.public, member.key.public, asked.nonce, asked.proof.nonce
    )
    join = JoinProof(invite.token_id, join_proof(invite.secret, BINDING, key.public), mesh.owner.node)
    proof = msgspec.structs.replace(asked.proof, public=key.public, signature=key.sign(transcript), join=join)
    refused = refusal(mesh, mesh.owner_site(), member, wire.encode(msgspec.structs.replace(asked, proof=proof)))
    assert "same node key" in str(refused)
    assert mesh.book.list(NOW)[0].uses_left == 1


def test_a_proof_made_for_one_member_is_worth_nothing_to_another(mesh: Mesh) -> None:
    member, other = mesh.member_site(), mesh.member_site()
    asked = Detour(mesh, member, mesh.joiner_site(), mesh.invite()).asked()
    as_it_was = refusal(mesh, mesh.owner_site(), other, wire.encode(asked))
    assert "made for another node" in str(as_it_was)
    relabelled = msgspec.structs.replace(asked, server_public=other.key.public)
    refused = refusal(mesh, mesh.owner_site(), other, wire.encode(relabelled))
    assert refused.code is RefusalCode.BAD_PROOF
    assert "does not hold for this connection" in str(refused)


@pytest.mark.parametrize("field", ["binding", "nonce"])
def test_a_proof_of_another_session_is_refused(mesh: Mesh, field: str) -> None:
    member = mesh.member_site()
    asked = Detour(mesh, member, mesh.joiner_site(), mesh.invite()).asked()
    edited = msgspec.structs.replace(asked, **{field: OTHER_BINDING})
    assert refusal(mesh, mesh.owner_site(), member, wire.encode(edited)).code is RefusalCode.BAD_PROOF


def test_a_join_proof_over_another_binding_is_refused_though_all_is_signed(mesh: Mesh) -> None:
    """Joiner and member agree on a session that the proof was not made for."""
    invite, joiner, member = mesh.invite(), mesh.joiner_site(), mesh.member_site()
    asked = Detour(mesh, member, joiner, invite, OTHER_BINDING).asked()
    assert asked.proof.join is not None
    stale = join_proof(invite.secret, BINDING, joiner.key.public)
    join = msgspec.structs.replace(asked.proof.join, proof=stale)
    edited = msgspec.structs.replace(asked, proof=msgspec.structs.replace(asked.proof, join=join))
    refused = refusal(mesh, mesh.owner_site(), member, wire.encode(edited))
    assert refused.code is RefusalCode.BAD_PROOF
    assert "token's secret" in str(refused)


def test_a_proof_forwarded_once_does_not_open_a_session_with_the_issuer(mesh: Mesh) -> None:
    joiner, member = mesh.joiner_site(), mesh.member_site()
    asked = Detour(mesh, member, joiner, mesh.invite()).asked()
    server = ServerAdmission(mesh.owner_site(), OTHER_BINDING, mesh.dice)
    server.start()
    with pytest.raises(Refused) as caught:
        server.receive(wire.encode(asked.proof), NOW)
    assert caught.value.code is RefusalCode.BAD_PROOF


def test_a_member_cannot_raise_the_role_that_a_token_gives(mesh: Mesh) -> None:
    """The role is outside the joiner's signature; the token holds it down."""
    member = mesh.member_site()
    asked = Detour(mesh, member, mesh.joiner_site(Role.CLIENT), mesh.invite(role=Role.CLIENT)).asked()
    for role in (Role.MEMBER, Role.OWNER):
        edited = msgspec.structs.replace(asked, proof=msgspec.structs.replace(asked.proof, role=role))
        assert refusal(mesh, mesh.owner_site(), member, wire.encode(edited)).code is RefusalCode.BAD_PROOF


def test_a_joiner_notices_that_it_was_made_less_than_it_asked_for(mesh: Mesh) -> None:
    member, joiner = mesh.member_site(), mesh.joiner_site()
    detour = Detour(mesh, member, joiner, mesh.invite())
    asked = detour.asked()
    edited = msgspec.structs.replace(asked, proof=msgspec.structs.replace(asked.proof, role=Role.CLIENT))
    grant = answer_forwarded(mesh.owner_site(), as_peer(member), wire.encode(edited), NOW, mesh.dice)
    with pytest.raises(Refused, match="does not hold here"):
        detour.finish(grant.reply)


def test_a_client_cannot_forward(mesh: Mesh) -> None:
    client = mesh.member_site(Role.CLIENT)
    question = Detour(mesh, client, mesh.joiner_site(), mesh.invite()).question()
    refused = refusal(mesh, mesh.owner_site(), client, question)
    assert "is a client" in str(refused)


# Tokens refused, in the issuer's words


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        ("spend", RefusalCode.TOKEN_SPENT),
        ("revoke", RefusalCode.TOKEN_REVOKED),
        ("revoke by list", RefusalCode.TOKEN_REVOKED),
        ("revoke the node", RefusalCode.REVOKED),
        ("expire", RefusalCode.TOKEN_EXPIRED),
        ("lose the book", RefusalCode.TOKEN_UNKNOWN),
        ("guess the secret", RefusalCode.BAD_PROOF),
        ("ask a member", RefusalCode.NOT_ISSUER),
        ("ask a node in no mesh", RefusalCode.NOT_ISSUER),
    ],
)
def test_a_refusal_of_the_issuer_reaches_the_joiner(mesh: Mesh, spoil: str, code: RefusalCode) -> None:
    invite, member, joiner = mesh.invite(ttl_s=3600), mesh.member_site(), mesh.joiner_site()
    issuer, now = mesh.owner_site(), NOW
    match spoil:
        case "spend":
            mesh.shake(issuer, mesh.joiner_site(), invite)
        case "revoke":
            mesh.book.revoke(invite.token_id)
        case "revoke by list":
            issuer = mesh.owner_site(frozenset({invite.token_id}))
        case "revoke the node":
            issuer = mesh.owner_site(frozenset({joiner.key.node}))
        case "expire":
            now += 4 * 3600
        case "lose the book":
            issuer = replace(issuer, tokens=type(mesh.book)(mesh.owner, mesh.membership, b"h" * 32))
        case "guess the secret":
            invite = msgspec.structs.replace(invite, secret=b"s" * 16)
        case "ask a member":
            issuer = mesh.member_site()
        case "ask a node in no mesh":
            issuer = replace(issuer, membership=None)
    detour = Detour(mesh, member, joiner, invite)
    at_issuer = refusal(mesh, issuer, member, detour.question(), now)
    assert at_issuer.code is code
    with pytest.raises(Refused) as at_member:
        read_answer(refusal_message(at_issuer), detour.forward.issuer)
    with pytest.raises(Refused) as at_joiner:
        detour.client.receive(refusal_message(at_member.value), now)
    assert (at_joiner.value.code, str(at_joiner.value)) == (code, str(at_issuer))


def test_a_member_refuses_what_the_issuer_should_not_have_answered(mesh: Mesh) -> None:
    member, joiner = mesh.member_site(), mesh.joiner_site()
    detour = Detour(mesh, member, joiner, mesh.invite())
    mesh_id, root = mesh.membership.mesh_id, Signer(mesh.root)
    for answer in (
        issue(root, mesh_id, mesh.key().public, Role.MEMBER, (), NOW, mesh.dice),
        issue(root, mesh_id, joiner.key.public, Role.CLIENT, (), NOW, mesh.dice),
        issue(root, mesh_id, joiner.key.public, Role.MEMBER, (), NOW - LIFETIME_S - DAY_S, mesh.dice),
        issue(Signer(mesh.key()), mesh_id, joiner.key.public, Role.MEMBER, (), NOW, mesh.dice),
        b"",
    ):
        with pytest.raises(Refused, match="does not hold here; try again") as caught:
            detour.finish(wire.encode(JoinGranted(answer)))
        assert caught.value.code is RefusalCode.BAD_CERTIFICATE


def test_a_member_whose_list_names_the_joiner_lets_nobody_in(mesh: Mesh) -> None:
    joiner = mesh.joiner_site()
    member = replace(mesh.member_site(), revoked=frozenset({joiner.key.node}))
    server = ServerAdmission(member, BINDING, mesh.dice)
    proof = ClientAdmission(joiner, BINDING, mesh.dice, mesh.invite()).receive(server.start(), NOW)
    assert isinstance(proof, bytes)
    with pytest.raises(Refused) as caught:
        server.judge(proof, NOW)
    assert caught.value.code is RefusalCode.REVOKED


def test_an_issuer_out_of_reach_is_named(mesh: Mesh) -> None:
    refused = out_of_reach(mesh.owner.node)
    assert refused.code is RefusalCode.NOT_ISSUER
    assert "cannot be reached now" in str(refused)


def test_who_forwards_nothing_still_says_so(mesh: Mesh) -> None:
    server = ServerAdmission(mesh.member_site(), BINDING, mesh.dice)
    proof = ClientAdmission(mesh.joiner_site(), BINDING, mesh.dice, mesh.invite()).receive(server.start(), NOW)
    assert isinstance(proof, bytes)
    with pytest.raises(Refused, match="join at that one") as caught:
        server.receive(proof, NOW)
    assert caught.value.code is RefusalCode.NOT_ISSUER


def test_the_longest_question_fits(mesh: Mesh) -> None:
    joiner = replace(mesh.joiner_site(), name="\U0001f41d" * 64, boot=2**53 - 1)
    assert len(Detour(mesh, mesh.member_site(), joiner, mesh.invite()).question()) < 1024


# The budget


def test_few_questions_are_open_at_once() -> None:
    budget = ForwardBudget()
    for _ in range(MAX_IN_FLIGHT):
        budget.take(NOW)
    with pytest.raises(Refused) as caught:
        budget.take(NOW)
    assert caught.value.code is RefusalCode.BUSY
    budget.give_back()
    budget.take(NOW)


def test_a_burst_runs_out_and_comes_back_with_time() -> None:
    budget = ForwardBudget()

    def asks(now: float, count: int) -> int:
        done = 0
        for _ in range(count):
            try:
                budget.take(now)
            except Refused:
                break
            budget.give_back()
            done += 1
        return done

    assert asks(NOW, 100) == BURST
    assert asks(NOW - 5, 100) == 0  # a clock that jumps back gives nothing
    assert asks(NOW + 5, 100) == 20
    assert asks(NOW + 1e6, 100) == BURST


# Any bytes at all

FUZZED = Mesh()
MEMBER, OWNER, JOINER = FUZZED.member_site(), FUZZED.owner_site(), FUZZED.joiner_site()
DETOUR = Detour(FUZZED, MEMBER, JOINER, FUZZED.invite(uses=1000))


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_end_in_a_refusal(data: bytes) -> None:
    refusal(FUZZED, OWNER, MEMBER, data)
    with pytest.raises(Refused):
        read_answer(data, OWNER.key.node)


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=6))
@settings(max_examples=300, deadline=None)
def test_overwritten_questions_admit_only_the_joiner(place: int, patch: bytes) -> None:
    edited = bytearray(DETOUR.question())
    start = place % len(edited)
    edited[start : start + len(patch)] = patch
    try:
        grant = answer_forwarded(OWNER, as_peer(MEMBER), bytes(edited), NOW, FUZZED.dice)
    except Refused:
        return
    accepted, _ = DETOUR.finish(grant.reply)
    assert accepted.peer.node == JOINER.key.node
