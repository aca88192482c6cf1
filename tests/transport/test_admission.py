from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.meshes import BINDING, DAY_S, NOW, Mesh
from transport import wire
from transport.admission import MAX_MESSAGE_BYTES, ClientAdmission, ServerAdmission, Site, refusal_message
from transport.certificate import LIFETIME_S, Membership, Signer, issue
from transport.errors import RefusalCode, Refused
from transport.handshake import ClientProof, JoinProof, ServerFinish, ServerHello
from transport.identity import node_id
from transport.interface import Role
from transport.invite import Invite

OTHER_BINDING = b"\x08" * 32


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


class Meeting:
    """One handshake, message by message, so that a test can step between the ends."""

    def __init__(
        self, mesh: Mesh, server: Site, client: Site, invite: Invite | None = None, client_binding: bytes = BINDING
    ) -> None:
        self.server = ServerAdmission(server, BINDING, mesh.dice)
        self.client = ClientAdmission(client, client_binding, mesh.dice, invite)

    def hello(self) -> ServerHello:
        return wire.decode(self.server.start(), ServerHello, peer=None, max_bytes=MAX_MESSAGE_BYTES)

    def proof(self) -> ClientProof:
        message = self.client.receive(self.server.start(), NOW)
        assert isinstance(message, bytes)
        return wire.decode(message, ClientProof, peer=None, max_bytes=MAX_MESSAGE_BYTES)


def refusal(mesh: Mesh, server: Site, client: Site, invite: Invite | None = None, **options: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        mesh.shake(server, client, invite, **options)
    assert str(caught.value).isprintable()
    return caught.value


# Who comes in


@pytest.mark.parametrize("role", [Role.MEMBER, Role.CLIENT])
def test_joiner_becomes_a_member_by_its_token(mesh: Mesh, role: Role) -> None:
    site, invite = mesh.joiner_site(role), mesh.invite(role=role)
    accepted, admitted = mesh.shake(mesh.owner_site(), site, invite)

    assert (accepted.peer.node, accepted.peer.role, accepted.peer.boot) == (site.key.node, role, 1)
    assert accepted.redeemed == invite.token_id
    assert (admitted.peer.node, admitted.peer.role, admitted.peer.name) == (mesh.owner.node, Role.OWNER, "owner")
    assert admitted.membership is not None
    assert admitted.membership.mesh_name == "attic"
    assert admitted.membership.certificate == accepted.peer.certificate
    own = admitted.membership.verified(NOW)
    assert (own.node, own.role, own.caps) == (site.key.node, role, frozenset())


def test_who_joined_comes_back_without_a_token_to_any_member(mesh: Mesh) -> None:
    site = mesh.joiner_site()
    _, admitted = mesh.shake(mesh.owner_site(), site, mesh.invite())
    accepted, again = mesh.shake(mesh.member_site(), replace(site, membership=admitted.membership, boot=2))
    assert (accepted.peer.node, accepted.peer.boot, accepted.redeemed) == (site.key.node, 2, None)
    assert again.membership is None


@pytest.mark.parametrize("server_role", [Role.MEMBER, Role.CLIENT])
@pytest.mark.parametrize("client_role", [Role.MEMBER, Role.CLIENT])
def test_members_of_every_role_meet(mesh: Mesh, server_role: Role, client_role: Role) -> None:
    server, client = mesh.member_site(server_role), mesh.member_site(client_role)
    accepted, admitted = mesh.shake(server, client, expected=server.key.node)
    assert (accepted.peer.node, accepted.peer.role) == (client.key.node, client_role)
    assert (admitted.peer.node, admitted.peer.role) == (server.key.node, server_role)


def test_owner_dials_a_member(mesh: Mesh) -> None:
    accepted, _ = mesh.shake(mesh.member_site(), mesh.owner_site())
    assert accepted.peer.role is Role.OWNER


def test_member_with_a_token_of_its_own_mesh_spends_nothing(mesh: Mesh) -> None:
    accepted, admitted = mesh.shake(mesh.owner_site(), mesh.member_site(), mesh.invite())
    assert (accepted.redeemed, admitted.membership) == (None, None)
    assert mesh.book.list(NOW)[0].uses_left == 1


def test_lost_reply_costs_no_second_use(mesh: Mesh) -> None:
    site, invite = mesh.joiner_site(), mesh.invite(uses=1)
    first, _ = mesh.shake(mesh.owner_site(), site, invite)
    second, admitted = mesh.shake(mesh.owner_site(), site, invite)
    assert (first.redeemed, second.redeemed) == (invite.token_id, None)
    assert admitted.membership is not None
    assert refusal(mesh, mesh.owner_site(), mesh.joiner_site(), invite).code is RefusalCode.TOKEN_SPENT


def test_delegate_admits_a_joiner(mesh: Mesh) -> None:
    key = mesh.key()
    encoded = issue(Signer(mesh.root), mesh.membership.mesh_id, key.public, Role.OWNER, ("can_invite",), NOW, mesh.dice)
    membership = msgspec.structs.replace(mesh.membership, certificate=encoded)
    signer = Signer(key, membership.verified(NOW))
    invite = mesh.invite()
    delegate = Site(key, "delegate", 1, membership, Role.OWNER, mesh.book, signer=signer)
    joiner = mesh.joiner_site()
    accepted, admitted = mesh.shake(delegate, joiner, invite)
    again, _ = mesh.shake(mesh.member_site(), replace(joiner, membership=admitted.membership))
    assert (again.peer.node, again.peer.role) == (joiner.key.node, Role.MEMBER)
    assert max(len(accepted.reply), len(accepted.peer.certificate)) < 600


@pytest.mark.parametrize("known", [None, 7])
def test_client_learns_the_highest_boot_the_mesh_has_seen_of_it(mesh: Mesh, known: int | None) -> None:
    client = mesh.member_site()
    boots = {client.key.node: known}
    _, admitted = mesh.shake(replace(mesh.owner_site(), highest_boot=boots.get), client)
    assert admitted.highest_boot == known


def test_expired_member_joins_again_by_a_token_of_its_mesh(mesh: Mesh) -> None:
    site = mesh.member_site(issued=NOW - LIFETIME_S - DAY_S)
    _, admitted = mesh.shake(mesh.owner_site(), site, mesh.invite())
    assert admitted.membership is not None
    assert admitted.membership.verified(NOW).node == site.key.node


def test_member_joins_again_as_client_by_a_client_token(mesh: Mesh) -> None:
    site = replace(mesh.member_site(Role.MEMBER), role=Role.CLIENT)
    _, admitted = mesh.shake(mesh.owner_site(), site, mesh.invite(role=Role.CLIENT))
    assert admitted.membership is not None
    assert admitted.membership.verified(NOW).role is Role.CLIENT


def test_every_message_fits_with_the_longest_names(mesh: Mesh) -> None:
    server = replace(mesh.owner_site(), name="\U0001f41d" * 64, boot=2**53 - 1)
    assert server.membership is not None
    server = replace(server, membership=msgspec.structs.replace(server.membership, mesh_name="\U0001f41d" * 64))
    client = replace(mesh.member_site(), name="\U0001f41d" * 64, boot=2**53 - 1)
    meeting = Meeting(mesh, server, client)
    hello = meeting.server.start()
    proof = meeting.client.receive(hello, NOW)
    assert isinstance(proof, bytes)
    finish = meeting.server.receive(proof, NOW).reply
    assert max(len(hello), len(proof), len(finish)) < MAX_MESSAGE_BYTES


# Tokens refused


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        ("spend", RefusalCode.TOKEN_SPENT),
        ("revoke", RefusalCode.TOKEN_REVOKED),
        ("expire", RefusalCode.TOKEN_EXPIRED),
        ("lose the book", RefusalCode.TOKEN_UNKNOWN),
        ("guess the secret", RefusalCode.BAD_PROOF),
        ("ask for more", RefusalCode.BAD_PROOF),
    ],
)
def test_a_token_that_does_not_hold_is_refused_in_words_the_joiner_gets(
    mesh: Mesh, spoil: str, code: RefusalCode
) -> None:
    invite, server, now, role = mesh.invite(ttl_s=3600), mesh.owner_site(), NOW, Role.MEMBER
    match spoil:
        case "spend":
            mesh.shake(server, mesh.joiner_site(), invite)
        case "revoke":
            mesh.book.revoke(invite.token_id)
        case "expire":
            now += 4 * 3600
        case "lose the book":
            server = replace(server, tokens=type(mesh.book)(mesh.owner, mesh.membership, b"h" * 32))
        case "guess the secret":
            invite = msgspec.structs.replace(invite, secret=b"s" * 16)
        case "ask for more":
            invite = mesh.invite(role=Role.CLIENT)
    server_end = ServerAdmission(server, BINDING, mesh.dice)
    client_end = ClientAdmission(mesh.joiner_site(role), BINDING, mesh.dice, invite)
    proof = client_end.receive(server_end.start(), now)
    assert isinstance(proof, bytes)
    with pytest.raises(Refused) as at_server:
        server_end.receive(proof, now)
    with pytest.raises(Refused) as at_client:
        client_end.receive(refusal_message(at_server.value), now)
    assert (at_client.value.code, str(at_client.value)) == (code, str(at_server.value))
    assert "meshd token create" in str(at_client.value)


def test_server_hears_why_a_joiner_turned_away(mesh: Mesh) -> None:
    """So that it counts a token of another mesh among its refusals."""
    meeting = Meeting(mesh, mesh.owner_site(), mesh.joiner_site(), Mesh(seed=2).invite())
    with pytest.raises(Refused) as at_client:
        meeting.proof()
    with pytest.raises(Refused) as at_server:
        meeting.server.receive(refusal_message(at_client.value), NOW)
    assert at_server.value.code is RefusalCode.WRONG_MESH


def test_only_the_issuer_redeems(mesh: Mesh) -> None:
    refused = refusal(mesh, mesh.member_site(), mesh.joiner_site(), mesh.invite())
    assert refused.code is RefusalCode.NOT_ISSUER


def test_token_of_another_mesh_is_refused_by_the_joiner(mesh: Mesh) -> None:
    refused = refusal(mesh, mesh.owner_site(), mesh.joiner_site(), Mesh(seed=2).invite())
    assert refused.code is RefusalCode.WRONG_MESH
    assert "meshd token create" in str(refused)


def test_introducer_with_another_root_is_refused_by_the_joiner(mesh: Mesh) -> None:
    """Somebody at the token's address copies the mesh's id and name, yet cannot copy its root."""
    other = Mesh(seed=2)
    fake = msgspec.structs.replace(other.membership, mesh_id=mesh.membership.mesh_id)
    refused = refusal(mesh, replace(other.owner_site(), membership=fake), mesh.joiner_site(), mesh.invite())
    assert refused.code is RefusalCode.BAD_CERTIFICATE
    assert "another root key" in str(refused)


def test_introducer_with_a_root_it_only_shows_is_refused_by_the_joiner(mesh: Mesh) -> None:
    other = Mesh(seed=2)
    fake = msgspec.structs.replace(
        other.membership, mesh_id=mesh.membership.mesh_id, root_public=mesh.membership.root_public
    )
    refused = refusal(mesh, replace(other.owner_site(), membership=fake), mesh.joiner_site(), mesh.invite())
    assert refused.code in (RefusalCode.WRONG_MESH, RefusalCode.BAD_CERTIFICATE)


def test_a_node_in_no_mesh_neither_accepts_nor_dials_without_an_invitation(mesh: Mesh) -> None:
    with pytest.raises(Refused, match="has not joined a mesh") as caught:
        ServerAdmission(mesh.joiner_site(), BINDING, mesh.dice).start()
    assert caught.value.code is RefusalCode.WRONG_MESH
    with pytest.raises(ValueError, match="invitation"):
        ClientAdmission(mesh.joiner_site(), BINDING, mesh.dice, None, None)


# Members refused


def test_member_of_another_mesh_hears_which_it_belongs_to(mesh: Mesh) -> None:
    refused = refusal(mesh, mesh.owner_site(), Mesh(seed=2, name="cellar").member_site(), mesh.invite())
    assert refused.code is RefusalCode.WRONG_MESH
    assert "'cellar'" in str(refused)
    assert "meshd leave" in str(refused)


def test_server_refuses_the_certificate_of_another_mesh(mesh: Mesh) -> None:
    stranger = Mesh(seed=2).member_site()
    assert stranger.membership is not None
    lying = Membership(mesh.membership.mesh_id, "attic", mesh.root.public, stranger.membership.certificate)
    assert refused_by_server(mesh, mesh.owner_site(), replace(stranger, membership=lying)) is RefusalCode.WRONG_MESH


def test_server_refuses_a_certificate_of_another_key(mesh: Mesh) -> None:
    thief = replace(mesh.member_site(), key=mesh.key())
    assert refused_by_server(mesh, mesh.owner_site(), thief) is RefusalCode.BAD_CERTIFICATE


def test_server_refuses_an_expired_member(mesh: Mesh) -> None:
    old = mesh.member_site(issued=NOW - LIFETIME_S - DAY_S)
    assert refused_by_server(mesh, mesh.owner_site(), old) is RefusalCode.EXPIRED_CERTIFICATE


def test_server_refuses_a_role_that_the_certificate_does_not_give(mesh: Mesh) -> None:
    upstart = replace(mesh.member_site(Role.CLIENT), role=Role.MEMBER)
    assert refused_by_server(mesh, mesh.owner_site(), upstart) is RefusalCode.BAD_CERTIFICATE


def refused_by_server(mesh: Mesh, server: Site, client: Site) -> RefusalCode:
    """The server's answer to a client that skips its own checks: its proof is made by hand."""
    server_end = ServerAdmission(server, BINDING, mesh.dice)
    hello = wire.decode(server_end.start(), ServerHello, peer=None, max_bytes=MAX_MESSAGE_BYTES)
    assert client.membership is not None
    nonce = b"n" * 32
    transcript = b"meshd-auth-C" + BINDING + hello.mesh_id + client.key.public + hello.public + hello.nonce + nonce
    proof = ClientProof(
        public=client.key.public,
        role=client.role,
        boot=client.boot,
        name=client.name,
        nonce=nonce,
        signature=client.key.sign(transcript),
        certificate=client.membership.certificate,
    )
    with pytest.raises(Refused) as caught:
        server_end.receive(wire.encode(proof), NOW)
    return caught.value.code


def test_expired_member_without_a_token_hears_what_to_do(mesh: Mesh) -> None:
    refused = refusal(mesh, mesh.owner_site(), mesh.member_site(issued=NOW - LIFETIME_S - 3 * DAY_S))
    assert refused.code is RefusalCode.EXPIRED_CERTIFICATE
    assert "expired 3 d ago" in str(refused)
    assert "meshd --join TOKEN" in str(refused)


def test_member_started_as_client_without_a_token_hears_what_to_do(mesh: Mesh) -> None:
    refused = refusal(mesh, mesh.owner_site(), replace(mesh.member_site(), role=Role.CLIENT))
    assert refused.code is RefusalCode.BAD_CERTIFICATE
    assert "--role client" in str(refused)


def test_expired_member_with_a_token_of_another_mesh_spends_nothing(mesh: Mesh) -> None:
    old = mesh.member_site(issued=NOW - LIFETIME_S - DAY_S)
    refused = refusal(mesh, mesh.owner_site(), old, Mesh(seed=2).invite())
    assert refused.code is RefusalCode.EXPIRED_CERTIFICATE


def test_client_refuses_its_mesh_under_another_root(mesh: Mesh) -> None:
    """The impostor signed a flawless mesh of his own that carries our mesh's id."""
    impostor = Mesh(seed=2)
    impostor.membership = msgspec.structs.replace(impostor.membership, mesh_id=mesh.membership.mesh_id)
    refused = refusal(mesh, impostor.member_site(), mesh.member_site())
    assert refused.code is RefusalCode.BAD_CERTIFICATE
    assert "another root key" in str(refused)


def test_client_refuses_an_expired_server(mesh: Mesh) -> None:
    server = mesh.member_site(issued=NOW - LIFETIME_S - DAY_S)
    assert refusal(mesh, server, mesh.member_site()).code is RefusalCode.EXPIRED_CERTIFICATE


def test_client_refuses_a_server_with_another_nodes_certificate(mesh: Mesh) -> None:
    server = replace(mesh.member_site(), key=mesh.key())
    assert refusal(mesh, server, mesh.member_site()).code is RefusalCode.BAD_CERTIFICATE


@pytest.mark.parametrize("by", ["node", "serial"])
def test_the_revoked_are_refused_at_both_ends(mesh: Mesh, by: str) -> None:
    outcast = mesh.member_site()
    assert outcast.membership is not None
    certificate = outcast.membership.verified(NOW)
    revoked = frozenset({certificate.node if by == "node" else certificate.serial})
    assert refusal(mesh, mesh.owner_site(revoked), outcast).code is RefusalCode.REVOKED
    assert refusal(mesh, outcast, mesh.owner_site(revoked)).code is RefusalCode.REVOKED


def test_a_revoked_node_cannot_come_back_by_a_token(mesh: Mesh) -> None:
    outcast, invite = mesh.joiner_site(), mesh.invite()
    refused = refusal(mesh, mesh.owner_site(frozenset({outcast.key.node})), outcast, invite)
    assert refused.code is RefusalCode.REVOKED
    assert mesh.book.list(NOW)[0].uses_left == 1


def test_another_node_at_a_known_address_is_refused(mesh: Mesh) -> None:
    refused = refusal(mesh, mesh.owner_site(), mesh.member_site(), expected=mesh.key().node)
    assert refused.code is RefusalCode.BAD_PROOF
    assert "expected node" in str(refused)


def test_client_that_reaches_its_own_key_hears_why(mesh: Mesh) -> None:
    meeting = Meeting(mesh, mesh.owner_site(), mesh.owner_site())
    with pytest.raises(Refused, match="data directory was copied") as caught:
        meeting.proof()
    assert caught.value.code is RefusalCode.BAD_PROOF


def test_server_refuses_its_own_key(mesh: Mesh) -> None:
    assert refused_by_server(mesh, mesh.owner_site(), mesh.owner_site()) is RefusalCode.BAD_PROOF


# The channel


def test_a_man_in_the_middle_is_refused_by_the_client(mesh: Mesh) -> None:
    """Two TLS sessions, one on each side of him, have two bindings."""
    refused = refusal(mesh, mesh.owner_site(), mesh.member_site(), client_binding=OTHER_BINDING)
    assert refused.code is RefusalCode.BAD_PROOF
    assert "signature does not hold for this connection" in str(refused)


@pytest.mark.parametrize("by_token", [False, True])
def test_a_recorded_proof_fails_in_another_session(mesh: Mesh, by_token: bool) -> None:
    client, invite = (mesh.joiner_site(), mesh.invite()) if by_token else (mesh.member_site(), None)
    first = ServerAdmission(mesh.owner_site(), BINDING, mesh.dice)
    proof = ClientAdmission(client, BINDING, mesh.dice, invite).receive(first.start(), NOW)
    assert isinstance(proof, bytes)
    first.receive(proof, NOW)
    for binding in (OTHER_BINDING, BINDING):  # the nonce differs even where the binding would not
        second = ServerAdmission(mesh.owner_site(), binding, mesh.dice)
        second.start()
        with pytest.raises(Refused) as caught:
            second.receive(proof, NOW)
        assert caught.value.code is RefusalCode.BAD_PROOF


def test_a_join_proof_of_another_session_fails_under_a_fresh_signature(mesh: Mesh) -> None:
    """A thief sees the proof of a joiner and tries to use it for his own key and session."""
    invite, victim, thief = mesh.invite(), mesh.joiner_site(), mesh.joiner_site()
    seen = Meeting(mesh, mesh.owner_site(), victim, invite).proof()
    assert seen.join is not None
    theft = Meeting(mesh, mesh.owner_site(), thief, msgspec.structs.replace(invite, secret=b"?" * 16))
    proof = msgspec.structs.replace(theft.proof(), join=seen.join)
    with pytest.raises(Refused) as caught:
        theft.server.receive(wire.encode(proof), NOW)
    assert caught.value.code is RefusalCode.BAD_PROOF


def test_the_secret_never_crosses_the_wire(mesh: Mesh) -> None:
    invite = mesh.invite()
    meeting = Meeting(mesh, mesh.owner_site(), mesh.joiner_site(), invite)
    hello = meeting.server.start()
    proof = meeting.client.receive(hello, NOW)
    assert isinstance(proof, bytes)
    accepted = meeting.server.receive(proof, NOW)
    for message in (hello, proof, accepted.reply):
        assert invite.secret not in message
        assert mesh.root.seed not in message


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_binding_of_another_length_is_our_own_mistake(mesh: Mesh, length: int) -> None:
    with pytest.raises(ValueError, match="channel binding"):
        ServerAdmission(mesh.owner_site(), bytes(length), mesh.dice)
    with pytest.raises(ValueError, match="channel binding"):
        ClientAdmission(mesh.member_site(), bytes(length), mesh.dice, None, None)


# Messages edited on the way (as a lying peer would send them)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mesh_id", b"m" * 16),
        ("root_public", b"r" * 32),
        ("public", b"p" * 32),
        ("certificate", b"\x93"),
        ("nonce", b"n" * 32),
        ("signature", b"s" * 64),
        ("name", "a\nb"),
        ("mesh_name", "\x1b[2J"),
    ],
)
def test_client_refuses_an_edited_hello(mesh: Mesh, field: str, value: object) -> None:
    meeting = Meeting(mesh, mesh.owner_site(), mesh.member_site())
    edited = msgspec.structs.replace(meeting.hello(), **{field: value})
    with pytest.raises(Refused):
        meeting.client.receive(wire.encode(edited), NOW)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("public", b"p" * 32, RefusalCode.BAD_PROOF),
        ("nonce", b"n" * 32, RefusalCode.BAD_PROOF),
        ("signature", b"s" * 64, RefusalCode.BAD_PROOF),
        ("role", Role.OWNER, RefusalCode.BAD_CERTIFICATE),
        ("name", "a\nb", RefusalCode.MALFORMED),
        ("certificate", None, RefusalCode.MALFORMED),
        ("certificate", b"\x93", RefusalCode.BAD_CERTIFICATE),
        ("join", JoinProof(b"t" * 8, b"p" * 32), RefusalCode.MALFORMED),
        ("boot", -1, RefusalCode.MALFORMED),
    ],
)
def test_server_refuses_an_edited_proof(mesh: Mesh, field: str, value: object, code: RefusalCode) -> None:
    meeting = Meeting(mesh, mesh.owner_site(), mesh.member_site())
    edited = msgspec.structs.replace(meeting.proof(), **{field: value})
    with pytest.raises(Refused) as caught:
        meeting.server.receive(wire.encode(edited), NOW)
    assert caught.value.code is code


def finish_of(mesh: Mesh, meeting: Meeting) -> ServerFinish:
    reply = meeting.server.receive(wire.encode(meeting.proof()), NOW).reply
    return wire.decode(reply, ServerFinish, peer=None, max_bytes=MAX_MESSAGE_BYTES)


def test_client_refuses_a_finish_that_the_server_did_not_sign(mesh: Mesh) -> None:
    meeting = Meeting(mesh, mesh.owner_site(), mesh.member_site())
    forged = msgspec.structs.replace(finish_of(mesh, meeting), signature=b"s" * 64)
    with pytest.raises(Refused) as caught:
        meeting.client.receive(wire.encode(forged), NOW)
    assert caught.value.code is RefusalCode.BAD_PROOF


def test_joiner_refuses_a_finish_without_a_certificate(mesh: Mesh) -> None:
    meeting = Meeting(mesh, mesh.owner_site(), mesh.joiner_site(), mesh.invite())
    bare = msgspec.structs.replace(finish_of(mesh, meeting), certificate=None)
    with pytest.raises(Refused, match="expected a certificate"):
        meeting.client.receive(wire.encode(bare), NOW)


@pytest.mark.parametrize("whose", ["another node", "another role"])
def test_joiner_refuses_a_certificate_that_is_not_what_it_asked_for(mesh: Mesh, whose: str) -> None:
    site = mesh.joiner_site()
    meeting = Meeting(mesh, mesh.owner_site(), site, mesh.invite())
    other = mesh.member_site() if whose == "another node" else mesh.member_site(Role.CLIENT, key=site.key)
    assert other.membership is not None
    swapped = msgspec.structs.replace(finish_of(mesh, meeting), certificate=other.membership.certificate)
    with pytest.raises(Refused) as caught:
        meeting.client.receive(wire.encode(swapped), NOW)
    assert caught.value.code is RefusalCode.BAD_CERTIFICATE


def test_member_refuses_a_certificate_it_did_not_ask_for(mesh: Mesh) -> None:
    site = mesh.member_site()
    meeting = Meeting(mesh, mesh.owner_site(), site)
    assert site.membership is not None
    pushed = msgspec.structs.replace(finish_of(mesh, meeting), certificate=site.membership.certificate)
    with pytest.raises(Refused, match="expected no certificate"):
        meeting.client.receive(wire.encode(pushed), NOW)


# Any bytes at all


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_bytes_at_any_step_end_in_a_refusal(data: bytes) -> None:
    mesh = Mesh()
    meeting = Meeting(mesh, mesh.owner_site(), mesh.member_site())
    with pytest.raises(Refused):
        meeting.client.receive(data, NOW)
    with pytest.raises(Refused):
        meeting.server.receive(data, NOW)
    meeting.proof()
    with pytest.raises(Refused):
        meeting.client.receive(data, NOW)


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=6), st.sampled_from(["hello", "proof", "finish"]))
@settings(max_examples=200, deadline=None)
def test_overwritten_messages_end_in_a_refusal_or_change_only_what_is_not_signed(
    place: int, patch: bytes, step: str
) -> None:
    mesh = Mesh()
    client = mesh.member_site()
    meeting = Meeting(mesh, mesh.owner_site(), client)
    try:
        hello = overwritten(meeting.server.start(), place, patch, step == "hello")
        proof = meeting.client.receive(hello, NOW)
        assert isinstance(proof, bytes)
        accepted = meeting.server.receive(overwritten(proof, place, patch, step == "proof"), NOW)
        meeting.client.receive(overwritten(accepted.reply, place, patch, step == "finish"), NOW)
    except Refused:
        return
    assert accepted.peer.node == node_id(client.key.public)
    assert accepted.peer.role is Role.MEMBER


def overwritten(message: bytes, place: int, patch: bytes, really: bool) -> bytes:
    if not really:
        return message
    edited = bytearray(message)
    start = place % len(edited)
    edited[start : start + len(patch)] = patch
    return bytes(edited)
