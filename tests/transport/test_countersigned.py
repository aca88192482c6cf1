from __future__ import annotations

from collections.abc import Sequence

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.meshes import DAY_S, NOW, Mesh
from transport.certificate import (
    LIFETIME_S,
    Capability,
    MemberCertificate,
    Signer,
    issue,
    verify_certificate,
)
from transport.countersigned import GRACE_S, Span, Vouch, assemble, countersign, horizon
from transport.errors import MeshError, RefusalCode, Refused
from transport.identity import NodeKey
from transport.interface import Role
from transport.rotation import WINDOW_S, Roots, succeed

MESH = Mesh()
MESH_ID = MESH.membership.mesh_id
DUE = NOW + 20 * DAY_S
SPAN = Span(int(DUE), int(DUE) + LIFETIME_S)


class Node:
    """A key and the certificate that root or delegate issued to it."""

    def __init__(
        self,
        signer: Signer | None = None,
        role: Role = Role.MEMBER,
        caps: tuple[Capability, ...] = (),
        now: float = NOW,
        key: NodeKey | None = None,
    ) -> None:
        self.key = key or MESH.key()
        encoded = issue(signer or Signer(MESH.root), MESH_ID, self.key.public, role, caps, now, MESH.dice)
        self.issued = check(encoded, now)

    def vouch(self, other: Node, span: Span = SPAN) -> Vouch:
        return Vouch(self.issued, countersign(self.key, other.issued, span))


def check(encoded: bytes, now: float = DUE, roots: Roots | None = None) -> MemberCertificate:
    return verify_certificate(encoded, roots or MESH.root.public, MESH_ID, now)


def refusal(encoded: bytes, now: float = DUE, roots: Roots | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        check(encoded, now, roots)
    return caught.value


def renewed(subject: Node, *members: Node, span: Span = SPAN) -> bytes:
    return assemble(subject.issued, span, [member.vouch(subject, span) for member in members])


def delegate() -> Signer:
    node = Node(caps=("can_invite",))
    return Signer(node.key, node.issued)


SUBJECT, ONE, TWO = Node(), Node(), Node()
GENUINE = renewed(SUBJECT, ONE, TWO)


def test_two_members_renew_a_third() -> None:
    certificate = check(GENUINE)
    assert (certificate.node, certificate.role, certificate.caps) == (SUBJECT.issued.node, Role.MEMBER, frozenset())
    assert (certificate.not_before, certificate.expires) == SPAN
    assert certificate.issued == SUBJECT.issued
    assert {one.node for one in certificate.countersigners} == {ONE.issued.node, TWO.issued.node}


def test_the_order_of_the_two_does_not_matter() -> None:
    assert renewed(SUBJECT, TWO, ONE) == GENUINE


def test_a_client_is_renewed_as_client_and_a_delegate_as_a_plain_member() -> None:
    assert check(renewed(Node(role=Role.CLIENT), ONE, TWO)).role is Role.CLIENT
    assert check(renewed(Node(caps=("can_invite",)), ONE, TWO)).caps == frozenset()


def test_it_holds_after_all_that_it_stands_on_has_expired() -> None:
    late = SPAN.expires - DAY_S
    with pytest.raises(Refused, match="expired"):
        check(SUBJECT.issued.encoded, late)
    assert check(GENUINE, late).node == SUBJECT.issued.node
    assert refusal(GENUINE, SPAN.expires + 700).code is RefusalCode.EXPIRED_CERTIFICATE


def test_it_is_small_enough_for_a_member_record_in_one_datagram() -> None:
    assert len(GENUINE) <= 600
    delegated = [Node(signer) for signer in (delegate(), delegate(), delegate())]
    assert check(renewed(*delegated)).role is Role.MEMBER
    assert len(renewed(*delegated)) <= 1024
    one = delegate()
    assert len(renewed(Node(one), Node(one), Node(one))) <= 750


def test_members_that_delegates_admitted_renew_and_are_renewed() -> None:
    signer = delegate()
    certificate = check(renewed(Node(signer), Node(signer), ONE))
    assert certificate.issued.delegate == signer.certificate


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_make_no_certificate(count: int) -> None:
    with pytest.raises(ValueError, match="unpack"):
        renewed(SUBJECT, *[ONE, TWO][:count])


def test_one_member_twice_is_not_two() -> None:
    assert "two members other than itself" in str(refusal(renewed(SUBJECT, ONE, ONE)))
    again = Node(key=ONE.key)
    assert again.issued.serial != ONE.issued.serial
    assert "two members other than itself" in str(refusal(renewed(SUBJECT, ONE, again)))


def test_nobody_renews_himself() -> None:
    assert "other than itself" in str(refusal(renewed(SUBJECT, SUBJECT, ONE)))


def test_clients_do_not_countersign() -> None:
    assert "a client countersigned" in str(refusal(renewed(SUBJECT, ONE, Node(role=Role.CLIENT))))


def test_members_make_no_owner() -> None:
    assert "cannot make an owner" in str(refusal(renewed(Node(role=Role.OWNER), ONE, TWO)))


@pytest.mark.parametrize(
    "span",
    [
        Span(int(DUE), int(DUE) + LIFETIME_S + 1),
        Span(int(DUE), int(DUE)),
        Span(int(NOW) + LIFETIME_S + GRACE_S - DAY_S, int(NOW) + LIFETIME_S + GRACE_S + 1),
    ],
)
def test_a_renewal_is_of_30_days_and_of_60_in_all(span: Span) -> None:
    assert "by 60 days in all" in str(refusal(renewed(SUBJECT, ONE, TWO, span=span), span.not_before))


def test_a_mesh_goes_on_for_sixty_days_past_the_last_word_of_its_root() -> None:
    end = horizon(SUBJECT.issued)
    assert end == int(NOW) + LIFETIME_S + GRACE_S
    last = renewed(SUBJECT, ONE, TWO, span=Span(end - LIFETIME_S, end))
    assert check(last, end).expires == end


def test_who_the_root_has_not_confirmed_for_too_long_cannot_countersign() -> None:
    """Keys from the disk of a host that was sold last year, and one live membership to prolong."""
    stale = Node(now=NOW - LIFETIME_S - GRACE_S)
    span = Span(int(DUE), int(DUE) + LIFETIME_S)
    assert "has not confirmed" in str(refusal(renewed(SUBJECT, ONE, stale, span=span)))


def test_backdating_gains_nothing() -> None:
    stale, other = Node(now=NOW - 200 * DAY_S), Node(now=NOW - 200 * DAY_S)
    span = Span(int(NOW) - 180 * DAY_S, int(NOW) - 150 * DAY_S)
    assert refusal(renewed(SUBJECT, stale, other, span=span)).code is RefusalCode.EXPIRED_CERTIFICATE


def test_a_start_in_the_future_is_refused_for_it_and_its_grounds() -> None:
    ahead = Span(int(DUE) + 3600, int(DUE) + DAY_S)
    assert "set the clocks" in str(refusal(renewed(SUBJECT, ONE, TWO, span=ahead)))
    assert "set the clocks" in str(refusal(renewed(SUBJECT, ONE, Node(now=DUE + 3600))))


def test_a_countersignature_holds_for_its_renewal_only() -> None:
    other_span = Span(SPAN.not_before, SPAN.expires - 1)
    for wrong in (ONE.vouch(TWO), ONE.vouch(SUBJECT, other_span), Vouch(ONE.issued, b"s" * 64)):
        encoded = assemble(SUBJECT.issued, SPAN, [wrong, TWO.vouch(SUBJECT)])
        assert "did not" in str(refusal(encoded))


def test_a_countersignature_holds_for_the_certificate_it_was_given_for() -> None:
    """An older certificate of the same node, of a serial that may have been revoked, is not the same."""
    older = Node(key=SUBJECT.key)
    vouches = [ONE.vouch(SUBJECT), TWO.vouch(SUBJECT)]
    assert "did not" in str(refusal(assemble(older.issued, SPAN, vouches)))


def test_grounds_of_another_mesh_are_worth_nothing() -> None:
    other = Mesh(seed=2)
    with pytest.raises(Refused):
        verify_certificate(GENUINE, other.root.public, MESH_ID, DUE)
    with pytest.raises(Refused) as caught:
        verify_certificate(GENUINE, MESH.root.public, other.membership.mesh_id, DUE)
    assert caught.value.code is RefusalCode.WRONG_MESH


def test_a_countersigned_certificate_is_no_ground_for_another() -> None:
    """What would make a chain without end does not even have a spelling."""
    grown = Vouch(check(GENUINE), countersign(SUBJECT.key, TWO.issued, SPAN))
    with pytest.raises(Refused):
        assemble(TWO.issued, SPAN, [grown, ONE.vouch(TWO)])


def test_revoking_any_of_its_grounds_revokes_it() -> None:
    signer = delegate()
    certificate = check(renewed(Node(signer), ONE, TWO))
    assert signer.certificate is not None
    grounds = (certificate, certificate.issued, ONE.issued, TWO.issued, signer.certificate)
    for name in [name for ground in grounds for name in (ground.node, ground.serial)]:
        assert certificate.revoked_by(frozenset({name}))
    assert not certificate.revoked_by(frozenset({MESH.owner.node}))
    assert not certificate.revoked_by(frozenset())


def test_its_serial_follows_from_what_it_renews() -> None:
    assert check(GENUINE).serial == check(renewed(SUBJECT, Node(), Node())).serial
    assert check(GENUINE).serial != check(renewed(ONE, SUBJECT, TWO)).serial


def test_it_counts_no_longer_than_the_root_under_it() -> None:
    new = MESH.key()
    link = succeed(MESH.root, new, MESH_ID, NOW)
    roots = Roots.of(MESH_ID, new.public, [link])
    assert check(GENUINE, DUE, roots).expires == int(NOW) + WINDOW_S
    late = NOW + WINDOW_S + 700
    assert refusal(GENUINE, late, roots).code is RefusalCode.EXPIRED_CERTIFICATE


def test_grounds_under_the_new_root_hold_too() -> None:
    new = MESH.key()
    roots = Roots.of(MESH_ID, new.public, [succeed(MESH.root, new, MESH_ID, NOW)])
    key = MESH.key()
    encoded = issue(Signer(new), MESH_ID, key.public, Role.MEMBER, (), NOW, MESH.dice)
    fresh = check(encoded, NOW, roots)
    vouch = Vouch(fresh, countersign(key, SUBJECT.issued, SPAN))
    assert check(assemble(SUBJECT.issued, SPAN, [vouch, ONE.vouch(SUBJECT)]), DUE, roots).role is Role.MEMBER


@pytest.mark.parametrize("spelling", ["order", "spare delegate", "no delegate", "delegate of a delegate"])
def test_one_certificate_has_one_spelling(spelling: str) -> None:
    parts = msgpack.unpackb(GENUINE)
    match spelling:
        case "order":
            parts[5].reverse()
        case "spare delegate":
            parts[6].append(parts[2])
        case "no delegate":
            parts[2][7] = 1
        case "delegate of a delegate":
            parts[6].append([*parts[2][:7], 1])
    assert refusal(msgpack.packb(parts)).code is RefusalCode.BAD_CERTIFICATE


def test_a_ground_under_a_delegate_it_was_not_signed_by_is_refused() -> None:
    signer = delegate()
    parts = msgpack.unpackb(renewed(Node(signer), ONE, TWO))
    parts[2][7] = 0
    assert "its signature is not by" in str(refusal(msgpack.packb(parts)))


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_bytes_end_in_a_refusal(data: bytes) -> None:
    for hostile in (data, b"\x97\x02" + data):
        with pytest.raises(MeshError):
            check(hostile)


numbers = st.integers(-(1 << 63), (1 << 64) - 1)
values = st.recursive(st.none() | numbers | st.binary(max_size=64), lambda inner: st.lists(inner), max_leaves=8)


@given(st.integers(0, 6), values)
@settings(max_examples=200, deadline=None)
def test_any_value_in_any_place_ends_in_a_refusal(place: int, value: object) -> None:
    parts = msgpack.unpackb(GENUINE)
    if parts[place] == value:
        return
    parts[place] = value
    refusal(msgpack.packb(parts))


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_no_change_passes(place: int, patch: bytes) -> None:
    edited = bytearray(GENUINE)
    place %= len(edited)
    edited[place : place + len(patch)] = patch
    if bytes(edited) != GENUINE:
        refusal(bytes(edited))


def test_every_single_byte_matters() -> None:
    for place in range(len(GENUINE)):
        edited = bytearray(GENUINE)
        edited[place] ^= 1
        refusal(bytes(edited))


def test_three_stolen_keys_last_until_the_horizon_and_no_longer() -> None:
    """They renew each other; every renewal stands on what the root last said."""
    thieves: Sequence[Node] = (SUBJECT, ONE, TWO)
    end = horizon(SUBJECT.issued)
    for subject in thieves:
        others = [node for node in thieves if node is not subject]
        encoded = renewed(subject, *others, span=Span(end - DAY_S, end))
        assert refusal(encoded, end + 700).code is RefusalCode.EXPIRED_CERTIFICATE
        later = renewed(subject, *others, span=Span(end - DAY_S, end + 1))
        assert refusal(later, end).code is RefusalCode.BAD_CERTIFICATE
