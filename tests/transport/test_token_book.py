from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.meshes import ADDRESSES, BINDING, NOW, Mesh
from transport import token_book
from transport.errors import ProtocolError, RefusalCode, Refused
from transport.identity import NodeKey
from transport.interface import Address, Role
from transport.invite import Invite, join_proof, parse_token
from transport.token_book import KEEP_EXPIRED_S, Redemption, TokenBook, TokenState


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def redeem(
    mesh: Mesh, invite: Invite, key: NodeKey | None = None, role: Role = Role.MEMBER, now: float = NOW
) -> Redemption:
    key = key or mesh.key()
    proof = join_proof(invite.secret, BINDING, key.public)
    return mesh.book.redeem(invite.token_id, proof, BINDING, key.public, role, now)


def refusal(
    mesh: Mesh, invite: Invite, key: NodeKey | None = None, role: Role = Role.MEMBER, now: float = NOW
) -> Refused:
    with pytest.raises(Refused) as caught:
        redeem(mesh, invite, key, role, now)
    return caught.value


def test_each_new_node_takes_one_use(mesh: Mesh) -> None:
    invite = mesh.invite(uses=2)
    assert redeem(mesh, invite).counted
    assert mesh.book.list(NOW)[0].uses_left == 1
    assert redeem(mesh, invite).counted
    assert mesh.book.list(NOW)[0].state is TokenState.SPENT
    assert refusal(mesh, invite).code is RefusalCode.TOKEN_SPENT


def test_the_same_node_again_takes_none(mesh: Mesh) -> None:
    invite, key = mesh.invite(uses=1), mesh.key()
    assert redeem(mesh, invite, key).counted
    assert not redeem(mesh, invite, key).counted
    assert refusal(mesh, invite, mesh.key()).code is RefusalCode.TOKEN_SPENT


def test_unknown_token_is_refused(mesh: Mesh) -> None:
    assert refusal(mesh, Mesh(seed=9).invite()).code is RefusalCode.TOKEN_UNKNOWN


@pytest.mark.parametrize("wrong", ["secret", "binding", "key", "length"])
def test_proof_holds_for_its_secret_session_and_key_only(mesh: Mesh, wrong: str) -> None:
    invite, key = mesh.invite(), mesh.key()
    secret = b"s" * 16 if wrong == "secret" else invite.secret
    binding = b"b" * 32 if wrong == "binding" else BINDING
    public = mesh.key().public if wrong == "key" else key.public
    proof = join_proof(secret, binding, public)[: 31 if wrong == "length" else 32]
    with pytest.raises(Refused) as caught:
        mesh.book.redeem(invite.token_id, proof, BINDING, key.public, Role.MEMBER, NOW)
    assert caught.value.code is RefusalCode.BAD_PROOF
    assert mesh.book.list(NOW)[0].uses_left == 1


def test_expiry_tells_when_and_what_to_do(mesh: Mesh) -> None:
    invite = mesh.invite(ttl_s=3600)
    redeem(mesh, invite, now=NOW + 3599)
    refused = refusal(mesh, invite, now=NOW + 4 * 3600)
    assert refused.code is RefusalCode.TOKEN_EXPIRED
    assert str(refused) == "this token expired 3 h ago; ask the owner for a new one: meshd token create"


def test_the_node_that_joined_cannot_use_an_expired_or_revoked_token_again(mesh: Mesh) -> None:
    invite, key = mesh.invite(ttl_s=3600), mesh.key()
    redeem(mesh, invite, key)
    assert refusal(mesh, invite, key, now=NOW + 3600).code is RefusalCode.TOKEN_EXPIRED
    mesh.book.revoke(invite.token_id)
    assert refusal(mesh, invite, key).code is RefusalCode.TOKEN_REVOKED


def test_revoked_token_admits_nobody(mesh: Mesh) -> None:
    invite = mesh.invite()
    assert mesh.book.revoke(invite.token_id)
    assert not mesh.book.revoke(b"unknown!")
    assert mesh.book.list(NOW)[0].state is TokenState.REVOKED
    assert refusal(mesh, invite).code is RefusalCode.TOKEN_REVOKED


def test_without_the_secret_one_learns_nothing_of_the_tokens_state(mesh: Mesh) -> None:
    invite = mesh.invite()
    mesh.book.revoke(invite.token_id)
    with pytest.raises(Refused) as caught:
        mesh.book.redeem(invite.token_id, b"?" * 32, BINDING, mesh.key().public, Role.MEMBER, NOW)
    assert caught.value.code is RefusalCode.BAD_PROOF


@pytest.mark.parametrize(
    ("granted", "wanted", "admitted"),
    [
        (Role.MEMBER, Role.MEMBER, True),
        (Role.MEMBER, Role.CLIENT, True),
        (Role.CLIENT, Role.CLIENT, True),
        (Role.CLIENT, Role.MEMBER, False),
        (Role.MEMBER, Role.OWNER, False),
        (Role.CLIENT, Role.OWNER, False),
    ],
)
def test_a_token_admits_its_role_or_less(mesh: Mesh, granted: Role, wanted: Role, admitted: bool) -> None:
    invite = mesh.invite(role=granted)
    if admitted:
        redeem(mesh, invite, role=wanted)
    else:
        assert refusal(mesh, invite, role=wanted).code is RefusalCode.BAD_PROOF
    assert mesh.book.list(NOW)[0].uses_left == (0 if admitted else 1)


@pytest.mark.parametrize(
    ("role", "ttl_s", "uses"),
    [(Role.OWNER, 60, 1), (Role.MEMBER, 0, 1), (Role.MEMBER, 1e9, 1), (Role.MEMBER, 60, 0), (Role.MEMBER, 60, 1001)],
)
def test_terms_that_no_token_may_have_are_refused(mesh: Mesh, role: Role, ttl_s: float, uses: int) -> None:
    with pytest.raises(ValueError, match="a token"):
        mesh.book.create(role, ttl_s, uses, ADDRESSES, NOW, mesh.dice)
    assert mesh.book.list(NOW) == ()


def test_at_most_six_addresses_are_taken(mesh: Mesh) -> None:
    many = [Address("192.0.2.1", port) for port in range(1, 9)]
    assert parse_token(mesh.book.create(Role.MEMBER, 60, 1, many, NOW, mesh.dice)).addresses == tuple(many[:6])


def test_an_address_that_could_not_be_read_back_makes_no_token(mesh: Mesh) -> None:
    with pytest.raises(ValueError, match="host"):
        mesh.book.create(Role.MEMBER, 60, 1, [Address("no host", 1)], NOW, mesh.dice)
    assert mesh.book.list(NOW) == ()


def test_book_survives_the_disk_and_holds_no_token(mesh: Mesh) -> None:
    invite, key = mesh.invite(uses=2), mesh.key()
    redeem(mesh, invite, key)
    stored = mesh.book.to_bytes()
    assert invite.secret not in stored
    before = mesh.book.list(NOW)
    mesh.book = TokenBook.from_bytes(stored, mesh.owner, mesh.membership)
    assert mesh.book.list(NOW) == before
    assert not redeem(mesh, invite, key).counted
    assert redeem(mesh, invite).counted


def test_book_of_a_newer_meshd_asks_for_an_upgrade(mesh: Mesh) -> None:
    newer = mesh.book.to_bytes().replace(b"\xa7version\x01", b"\xa7version\x02")
    with pytest.raises(ProtocolError, match="version 1, got 2: upgrade"):
        TokenBook.from_bytes(newer, mesh.owner, mesh.membership)


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_bytes_on_disk_end_in_a_protocol_error(data: bytes) -> None:
    mesh = Mesh()
    with pytest.raises(ProtocolError, match="token book"):
        TokenBook.from_bytes(data, mesh.owner, mesh.membership)


def test_tokens_are_forgotten_a_week_after_they_expired(mesh: Mesh) -> None:
    old = mesh.invite(ttl_s=60)
    mesh.book.create(Role.MEMBER, 60, 1, ADDRESSES, NOW + 60 + KEEP_EXPIRED_S - 1, mesh.dice)
    assert old.token_id in {entry.token_id for entry in mesh.book.list(NOW)}
    mesh.book.create(Role.MEMBER, 60, 1, ADDRESSES, NOW + 60 + KEEP_EXPIRED_S, mesh.dice)
    assert old.token_id not in {entry.token_id for entry in mesh.book.list(NOW)}


def test_a_full_book_drops_what_admits_nobody_and_then_says_so(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_book, "MAX_TOKENS", 3)
    first, _, _ = mesh.invite(), mesh.invite(), mesh.invite()
    with pytest.raises(ValueError, match="revoke some"):
        mesh.invite()
    mesh.book.revoke(first.token_id)
    mesh.invite()
    assert first.token_id not in {entry.token_id for entry in mesh.book.list(NOW)}


def test_list_shows_the_next_to_expire_first_with_the_id_to_revoke(mesh: Mesh) -> None:
    later, sooner = mesh.invite(ttl_s=7200), mesh.invite(ttl_s=3600, role=Role.CLIENT)
    entries = mesh.book.list(NOW + 5000)
    assert [entry.text for entry in entries] == [sooner.token_id.hex(), later.token_id.hex()]
    assert [entry.state for entry in entries] == [TokenState.EXPIRED, TokenState.VALID]
