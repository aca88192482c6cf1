"""Every stream protocol against everyone who might try to open it, from the handshake on.

Strangers of all kinds get no further than the handshake, so they open nothing; who is admitted opens what the
table gives to the role that was proved, and not to the one that was claimed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from meshd.dispatch import Dispatch
from meshd.permission import OPENERS, may_open
from tests.transport.meshes import BINDING, DAY_S, NOW, Mesh
from transport import wire
from transport.admission import MAX_MESSAGE_BYTES, Accepted, ClientAdmission, Forward, ServerAdmission
from transport.certificate import LIFETIME_S
from transport.errors import BadToken, RefusalCode, Refused
from transport.handshake import ClientProof
from transport.interface import Peer, Role, Stream
from transport.invite import Invite, format_token, parse_token
from transport.revocation import Names, Revocations, fallen
from transport.rotation import Roots
from transport.site import Site

PROTOCOLS = sorted(OPENERS)
CLIENTS_OPEN = {"gossip/1", "chat/1", "form/1", "renew/1"}
MAY: dict[Role | None, set[str]] = {
    None: set(),
    Role.CLIENT: CLIENTS_OPEN,
    Role.MEMBER: set(PROTOCOLS),
    Role.OWNER: set(PROTOCOLS),
}

Outcome = Role | RefusalCode | type[BadToken]
Attempt = Callable[[Mesh], Peer]


def server_takes(mesh: Mesh, client: Site, invite: Invite | None = None, now: float = NOW) -> Peer:
    """Let `client` in at the owner, or raise why not."""
    accepted, _ = mesh.shake(mesh.owner_site(), client, invite, now=now)
    return accepted.peer


def proof_of(mesh: Mesh, server: ServerAdmission, client: Site, invite: Invite | None = None) -> ClientProof:
    message = ClientAdmission(client, BINDING, mesh.dice, invite).receive(server.start(), NOW)
    assert isinstance(message, bytes)
    return wire.decode(message, ClientProof, peer=None, max_bytes=MAX_MESSAGE_BYTES)


def judged(server: ServerAdmission, proof: ClientProof) -> Peer:
    accepted = server.judge(wire.encode(proof), NOW)
    assert isinstance(accepted, Accepted)
    return accepted.peer


def without_token(mesh: Mesh) -> Peer:
    server = ServerAdmission(mesh.owner_site(), BINDING, mesh.dice)
    proof = proof_of(mesh, server, mesh.joiner_site(), mesh.invite())
    return judged(server, msgspec.structs.replace(proof, join=None))


def with_edited_token(mesh: Mesh) -> Peer:
    stolen = mesh.invite(role=Role.CLIENT)
    edited = msgspec.structs.replace(stolen, role=Role.MEMBER)
    return server_takes(mesh, mesh.joiner_site(), parse_token(format_token(edited, mesh.key())))


def with_edited_claim(mesh: Mesh) -> Peer:
    """A client's token, and the joiner lies about what it is for."""
    return server_takes(mesh, mesh.joiner_site(Role.MEMBER), mesh.invite(role=Role.CLIENT))


def with_replayed_proof(mesh: Mesh) -> Peer:
    first = ServerAdmission(mesh.owner_site(), BINDING, mesh.dice)
    proof = proof_of(mesh, first, mesh.joiner_site(), mesh.invite(uses=2))
    judged(first, proof)
    second = ServerAdmission(mesh.owner_site(), BINDING, mesh.dice)
    second.start()
    return judged(second, proof)


def with_spent_token(mesh: Mesh) -> Peer:
    invite = mesh.invite()
    server_takes(mesh, mesh.joiner_site(), invite)
    return server_takes(mesh, mesh.joiner_site(), invite)


def with_revoked_token(mesh: Mesh) -> Peer:
    invite = mesh.invite()
    mesh.book.revoke(invite.token_id)
    return server_takes(mesh, mesh.joiner_site(), invite)


def with_listed_token(mesh: Mesh) -> Peer:
    invite = mesh.invite()
    server = mesh.owner_site(frozenset({invite.token_id}))
    return mesh.shake(server, mesh.joiner_site(), invite)[0].peer


def as_revoked_member(mesh: Mesh) -> Peer:
    outcast = mesh.member_site()
    return mesh.shake(mesh.owner_site(frozenset({outcast.key.node})), outcast)[0].peer


def at_a_member_that_forwards_nothing(mesh: Mesh) -> Peer:
    return mesh.shake(mesh.member_site(), mesh.joiner_site(), mesh.invite())[0].peer


def as_client_that_claims_more(mesh: Mesh) -> Peer:
    server = ServerAdmission(mesh.owner_site(), BINDING, mesh.dice)
    return judged(
        server, msgspec.structs.replace(proof_of(mesh, server, mesh.member_site(Role.CLIENT)), role=Role.MEMBER)
    )


ATTEMPTS: list[tuple[str, Attempt, Outcome]] = [
    ("no token", without_token, RefusalCode.MALFORMED),
    (
        "expired token",
        lambda mesh: server_takes(mesh, mesh.joiner_site(), mesh.invite(ttl_s=60), NOW + 61),
        RefusalCode.TOKEN_EXPIRED,
    ),
    ("edited token", with_edited_token, BadToken),
    ("edited claim", with_edited_claim, RefusalCode.BAD_PROOF),
    ("replayed proof", with_replayed_proof, RefusalCode.BAD_PROOF),
    ("spent token", with_spent_token, RefusalCode.TOKEN_SPENT),
    ("revoked token", with_revoked_token, RefusalCode.TOKEN_REVOKED),
    ("token on the list", with_listed_token, RefusalCode.TOKEN_REVOKED),
    (
        "token of another mesh",
        lambda mesh: server_takes(mesh, mesh.joiner_site(), Mesh(seed=2).invite()),
        RefusalCode.WRONG_MESH,
    ),
    ("token of another issuer", at_a_member_that_forwards_nothing, RefusalCode.NOT_ISSUER),
    (
        "expired member",
        lambda mesh: server_takes(mesh, mesh.member_site(issued=NOW - LIFETIME_S - DAY_S)),
        RefusalCode.EXPIRED_CERTIFICATE,
    ),
    ("revoked member", as_revoked_member, RefusalCode.REVOKED),
    ("member of another mesh", lambda mesh: server_takes(mesh, Mesh(seed=2).member_site()), RefusalCode.WRONG_MESH),
    ("client that claims more", as_client_that_claims_more, RefusalCode.BAD_CERTIFICATE),
    ("joined as client", lambda mesh: server_takes(mesh, mesh.joiner_site(Role.CLIENT), mesh.invite()), Role.CLIENT),
    ("joined as member", lambda mesh: server_takes(mesh, mesh.joiner_site(), mesh.invite()), Role.MEMBER),
    ("client", lambda mesh: server_takes(mesh, mesh.member_site(Role.CLIENT)), Role.CLIENT),
    ("member", lambda mesh: server_takes(mesh, mesh.member_site()), Role.MEMBER),
    ("delegate", lambda mesh: server_takes(mesh, mesh.delegate_site()), Role.MEMBER),
    ("owner", lambda mesh: server_takes(mesh, mesh.member_site(Role.OWNER)), Role.OWNER),
]


def outcome_of(attempt: Attempt) -> Outcome:
    try:
        return attempt(Mesh()).role
    except Refused as refused:
        return refused.code
    except BadToken:
        return BadToken


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("who", "attempt", "expected"), ATTEMPTS, ids=[who for who, _, _ in ATTEMPTS])
def test_who_opens_what(who: str, attempt: Attempt, expected: Outcome, protocol: str) -> None:
    outcome = outcome_of(attempt)
    assert outcome == expected
    role = outcome if isinstance(outcome, Role) else None
    is_open = role is not None and may_open(role, protocol)
    assert is_open == (protocol in MAY[role])


@pytest.mark.parametrize("role", list(Role))
def test_who_is_revoked_while_connected_has_to_go(role: Role) -> None:
    mesh = Mesh()
    peer, other = server_takes(mesh, mesh.member_site(role)), server_takes(mesh, mesh.member_site(role))
    revocations = Revocations(mesh.membership.mesh_id)
    listed = revocations.amend(mesh.root, Names(frozenset({peer.node})), NOW)
    revocations.receive(listed, Roots(mesh.root.public), NOW)
    assert fallen((peer, other), revocations.revoked) == (peer.node,)


def test_a_member_that_forwards_lets_nobody_in_before_the_issuer_answered() -> None:
    mesh = Mesh()
    server = ServerAdmission(mesh.member_site(), BINDING, mesh.dice)
    proof = proof_of(mesh, server, replace(mesh.joiner_site(), name="joiner"), mesh.invite())
    assert isinstance(server.judge(wire.encode(proof), NOW), Forward)


@pytest.mark.parametrize("protocol", ["", "chat/2", "Chat/1", "admin/1"])
def test_what_is_not_in_the_table_is_open_to_nobody(protocol: str) -> None:
    assert not any(may_open(role, protocol) for role in Role)


def test_a_service_that_nobody_may_open_is_our_own_mistake() -> None:
    async def serve(stream: Stream) -> None:
        raise AssertionError("never opened")

    with pytest.raises(ValueError, match="nobody may open dance/1"):
        Dispatch({"chat/1": serve, "dance/1": serve})
