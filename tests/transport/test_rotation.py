from __future__ import annotations

from itertools import pairwise

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.meshes import DAY_S, NOW, Mesh
from transport.certificate import LIFETIME_S, Membership, Signer, issue, rotate_root, verify_certificate
from transport.errors import RefusalCode, Refused
from transport.identity import NodeKey
from transport.interface import Role
from transport.rotation import MAX_SUCCESSION_BYTES, MAX_SUCCESSIONS, WINDOW_S, Roots, read_succession, succeed

MESH = Mesh()
MESH_ID = MESH.membership.mesh_id
KEYS = [MESH.root, *(MESH.key() for _ in range(10))]


def chain(*keys: NodeKey, now: float = NOW) -> tuple[bytes, ...]:
    return tuple(succeed(old, new, MESH_ID, now) for old, new in pairwise(keys))


def roots(*keys: NodeKey, now: float = NOW) -> Roots:
    return Roots.of(MESH_ID, keys[-1].public, chain(*keys, now=now))


def refusal(encoded: bytes, mesh_id: bytes = MESH_ID) -> Refused:
    with pytest.raises(Refused) as caught:
        read_succession(encoded, mesh_id)
    return caught.value


def test_a_succession_says_who_follows_whom_and_until_when_both_count() -> None:
    (encoded,) = chain(*KEYS[:2])
    link = read_succession(encoded, MESH_ID)
    assert (link.old_public, link.new_public) == (KEYS[0].public, KEYS[1].public)
    assert (link.rotated, link.window_ends) == (int(NOW), int(NOW) + WINDOW_S)
    assert len(encoded) <= MAX_SUCCESSION_BYTES


def test_both_roots_count_in_the_window_and_the_new_one_after_it() -> None:
    both = roots(*KEYS[:2])
    assert [root.public for root in both.accepted(NOW + WINDOW_S)] == [KEYS[1].public, KEYS[0].public]
    assert [root.public for root in both.accepted(NOW + WINDOW_S + 601)] == [KEYS[1].public]


def test_the_window_outlives_every_certificate_signed_before_it() -> None:
    assert WINDOW_S >= LIFETIME_S
    with pytest.raises(ValueError, match="30 to 90 days"):
        succeed(KEYS[0], KEYS[1], MESH_ID, NOW, WINDOW_S - 1)
    with pytest.raises(ValueError, match="30 to 90 days"):
        succeed(KEYS[0], KEYS[1], MESH_ID, NOW, 91 * DAY_S)
    with pytest.raises(ValueError, match="new root"):
        succeed(KEYS[0], KEYS[0], MESH_ID, NOW)


@pytest.mark.parametrize("signer", ["old", "new"])
def test_a_succession_that_either_root_did_not_sign_is_refused(signer: str) -> None:
    """The thief of an invitation has neither; who bought a domain has the new one only."""
    (genuine,) = chain(*KEYS[:2])
    stranger = MESH.key()
    (forged,) = chain(stranger, KEYS[1]) if signer == "old" else chain(KEYS[0], stranger)
    # signatures stand at the end: 64 bytes by the old root, two of length, 64 by the new
    place = slice(-130, -66) if signer == "old" else slice(-64, None)
    body = bytearray(genuine)
    body[place] = forged[place]
    assert f"the {signer} root did not sign it" in str(refusal(bytes(body)))


def by_hand(*, window_s: int = WINDOW_S, spelling: bytes = b"") -> bytes:
    """A succession that both roots signed and `succeed` would not write."""
    old, new = KEYS[:2]
    body = msgpack.packb([MESH_ID, old.public, new.public, int(NOW), int(NOW) + window_s])
    if spelling:
        body = body.replace(msgpack.packb(MESH_ID), spelling + MESH_ID)
    by_old, by_new = old.sign(b"meshd-root-old-v1" + body), new.sign(b"meshd-root-new-v1" + body)
    return bytes(msgpack.packb([body, by_old, by_new]))


@pytest.mark.parametrize("window_s", [-1, 0, WINDOW_S - 1, 91 * DAY_S])
def test_a_window_that_no_rotation_has_is_refused_though_both_signed_it(window_s: int) -> None:
    assert read_succession(by_hand(), MESH_ID).encoded == chain(*KEYS[:2])[0]
    assert "30 to 90 days" in str(refusal(by_hand(window_s=window_s)))


def test_one_succession_has_one_spelling() -> None:
    """MessagePack can write the same sixteen bytes with a length of one, two or four bytes."""
    assert "not the one meshd writes" in str(refusal(by_hand(spelling=b"\xc5\x00\x10")))
    (genuine,) = chain(*KEYS[:2])
    assert "not the one meshd writes" in str(refusal(genuine.replace(b"\xc4\x40", b"\xc5\x00\x40", 1)))


def test_a_succession_of_another_mesh_is_refused() -> None:
    (encoded,) = chain(*KEYS[:2])
    assert refusal(encoded, b"o" * 16).code is RefusalCode.WRONG_MESH


def test_roots_learn_a_successor_and_forget_the_oldest_past_eight() -> None:
    known = Roots(KEYS[0].public)
    assert known.extended(MESH_ID, chain(*KEYS[:3])) == roots(*KEYS[:3])
    long = known.extended(MESH_ID, chain(*KEYS[:8])).extended(MESH_ID, chain(*KEYS[7:]))
    assert (long.current, len(long.links)) == (KEYS[10].public, MAX_SUCCESSIONS)
    assert Roots.of(MESH_ID, long.current, long.encoded) == long
    assert long.seniority(KEYS[10].public) > long.seniority(KEYS[5].public) > long.seniority(KEYS[0].public)


def test_what_is_known_already_or_from_before_changes_nothing() -> None:
    ours = roots(*KEYS[1:3])
    assert ours.extended(MESH_ID, chain(*KEYS[:3])) is ours
    assert ours.extended(MESH_ID, ()) is ours


def test_a_second_successor_of_the_same_root_is_refused() -> None:
    """The one heard of first stays, whoever signed the other."""
    rival = chain(KEYS[0], KEYS[5], now=NOW + DAY_S)
    with pytest.raises(Refused, match="another successor") as caught:
        roots(*KEYS[:2]).extended(MESH_ID, rival)
    assert caught.value.code is RefusalCode.BAD_CERTIFICATE


def test_a_root_does_not_return_to_office() -> None:
    with pytest.raises(Refused, match="cannot return"):
        roots(*KEYS[:2]).extended(MESH_ID, chain(KEYS[1], KEYS[0]))
    with pytest.raises(Refused, match="do not lead"):
        Roots.of(MESH_ID, KEYS[0].public, chain(KEYS[0], KEYS[1], KEYS[0]))


@pytest.mark.parametrize("shown", ["gap", "order", "end"])
def test_a_chain_that_does_not_lead_to_the_root_shown_is_refused(shown: str) -> None:
    links, end = chain(*KEYS[:4]), KEYS[3].public
    broken = {"gap": (links[0], links[2]), "order": (links[1], links[0], links[2]), "end": links[:2]}[shown]
    with pytest.raises(Refused, match="do not lead"):
        Roots.of(MESH_ID, end, broken)


def test_certificates_of_both_roots_hold_in_the_window_and_of_the_new_one_after_it() -> None:
    both = roots(*KEYS[:2])
    old, new = (issue(Signer(key), MESH_ID, MESH.key().public, Role.MEMBER, (), NOW, MESH.dice) for key in KEYS[:2])
    assert verify_certificate(old, both, MESH_ID, NOW).root_public == KEYS[0].public
    assert verify_certificate(new, both, MESH_ID, NOW).root_public == KEYS[1].public
    with pytest.raises(Refused) as caught:
        verify_certificate(new, KEYS[0].public, MESH_ID, NOW)
    assert caught.value.code is RefusalCode.BAD_CERTIFICATE


def test_what_a_retired_root_signs_counts_no_longer_than_its_window() -> None:
    both, late = roots(*KEYS[:2]), NOW + WINDOW_S - DAY_S
    backdated = issue(Signer(KEYS[0]), MESH_ID, MESH.key().public, Role.MEMBER, (), late, MESH.dice)
    assert verify_certificate(backdated, both, MESH_ID, late).expires == int(NOW) + WINDOW_S
    with pytest.raises(Refused, match="replaced; it stopped counting 1 d ago") as caught:
        verify_certificate(backdated, both, MESH_ID, NOW + WINDOW_S + DAY_S)
    assert caught.value.code is RefusalCode.EXPIRED_CERTIFICATE
    assert "meshd token create" in str(caught.value)


def test_what_a_delegate_of_a_retired_root_signed_counts_no_longer_either() -> None:
    late, key = NOW + WINDOW_S - DAY_S, MESH.key()
    named = issue(Signer(KEYS[0]), MESH_ID, key.public, Role.MEMBER, ("can_invite",), late, MESH.dice)
    signer = Signer(key, verify_certificate(named, KEYS[0].public, MESH_ID, late))
    admitted = issue(signer, MESH_ID, MESH.key().public, Role.MEMBER, (), late, MESH.dice)
    assert verify_certificate(admitted, KEYS[0].public, MESH_ID, NOW + WINDOW_S + DAY_S).role is Role.MEMBER
    with pytest.raises(Refused) as caught:
        verify_certificate(admitted, roots(*KEYS[:2]), MESH_ID, NOW + WINDOW_S + DAY_S)
    assert caught.value.code is RefusalCode.EXPIRED_CERTIFICATE


def test_a_delegate_of_a_root_in_its_window_still_admits() -> None:
    key = MESH.key()
    named = issue(Signer(KEYS[0]), MESH_ID, key.public, Role.MEMBER, ("can_invite",), NOW, MESH.dice)
    both = roots(*KEYS[:2])
    signer = Signer(key, verify_certificate(named, both, MESH_ID, NOW))
    admitted = issue(signer, MESH_ID, MESH.key().public, Role.MEMBER, (), NOW, MESH.dice)
    certificate = verify_certificate(admitted, both, MESH_ID, NOW)
    assert (certificate.root_public, certificate.expires) == (KEYS[0].public, int(NOW) + LIFETIME_S)


def test_the_owner_rotates_the_root_and_the_mesh_is_still_the_same() -> None:
    new = MESH.key()
    rotated = rotate_root(MESH.membership, MESH.root, new, NOW + DAY_S, MESH.dice)
    assert (rotated.mesh_id, rotated.mesh_name, rotated.root_public) == (MESH_ID, "attic", new.public)
    own = rotated.verified(NOW + DAY_S)
    assert (own.root_public, own.role, own.caps) == (new.public, Role.OWNER, frozenset({"can_invite"}))
    assert Membership.from_bytes(rotated.to_bytes()) == rotated
    again = rotate_root(rotated, new, MESH.key(), NOW + 2 * DAY_S, MESH.dice)
    assert len(again.successions) == 2
    with pytest.raises(ValueError, match="not the root key"):
        rotate_root(rotated, MESH.root, new, NOW, MESH.dice)


def test_a_broken_chain_on_disk_is_refused() -> None:
    broken = MESH.membership.under(roots(*KEYS[:2]))
    with pytest.raises(Refused, match="do not lead"):
        Membership(broken.mesh_id, "attic", KEYS[2].public, broken.certificate, broken.successions).verified(NOW)


def test_a_membership_written_before_there_were_successions_is_read() -> None:
    before = MESH.membership.to_bytes().replace(b"\x85", b"\x84", 1).removesuffix(b"\xabsuccessions\x90")
    assert len(before) < len(MESH.membership.to_bytes())
    assert Membership.from_bytes(before) == MESH.membership


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_end_in_a_refusal(data: bytes) -> None:
    assert refusal(data).code is RefusalCode.BAD_CERTIFICATE


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_no_change_of_a_succession_passes(place: int, patch: bytes) -> None:
    (genuine,) = chain(*KEYS[:2])
    edited = bytearray(genuine)
    place %= len(edited)
    edited[place : place + len(patch)] = patch
    if bytes(edited) != genuine:
        refusal(bytes(edited))
