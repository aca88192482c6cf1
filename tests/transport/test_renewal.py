from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.meshes import DAY_S, NOW, Mesh
from transport import wire
from transport.certificate import LIFETIME_S, MemberCertificate, Membership, Signer, issue, rotate_root
from transport.countersigned import GRACE_S, Span, countersign, horizon
from transport.errors import RefusalCode, Refused
from transport.handshake import MAX_MESSAGE_BYTES, refusal_message
from transport.interface import Role
from transport.renewal import Countersigned, Renewed, Renewer, Renewing, RenewRequest, Wish, may_sign, wish
from transport.rotation import Roots
from transport.site import Site

DUE = NOW + 20 * DAY_S


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def membership_of(site: Site) -> Membership:
    assert site.membership is not None
    return site.membership


def own(site: Site, now: float = NOW) -> MemberCertificate:
    return membership_of(site).verified(now)


def renewing(site: Site, now: float = DUE, revoked: frozenset[bytes] = frozenset()) -> Renewing:
    return Renewing(site.key, membership_of(site), revoked, now)


def ask(mesh: Mesh, attempt: Renewing, asker: Site, asked: Renewer | Site, now: float = DUE) -> Membership | None:
    """One question and its answer, whichever end refuses raises."""
    renewer = asked if isinstance(asked, Renewer) else Renewer(asked)
    answer = renewer.answer(attempt.request(), asker.key.node, now, mesh.dice)
    return attempt.receive(answer, renewer.site.key.node, now)


def refusal(mesh: Mesh, asker: Site, asked: Renewer | Site, now: float = DUE) -> Refused:
    with pytest.raises(Refused) as caught:
        ask(mesh, renewing(asker, now), asker, asked, now)
    assert str(caught.value).isprintable()
    return caught.value


def by_members(mesh: Mesh, asker: Site, one: Site, other: Site, now: float = DUE) -> Site:
    """`asker` after two members countersigned its renewal."""
    attempt = renewing(asker, now)
    assert ask(mesh, attempt, asker, one, now) is None
    membership = ask(mesh, attempt, asker, other, now)
    assert membership is not None
    return replace(asker, membership=membership)


# When, and from whom


def test_a_new_one_is_wished_for_at_two_thirds_of_life(mesh: Mesh) -> None:
    certificate, roots = own(mesh.member_site()), Roots(mesh.root.public)
    assert wish(certificate, roots, DUE - 1) is Wish.NONE
    assert wish(certificate, roots, DUE) is Wish.ANYONE


def test_an_owner_is_renewed_by_the_root_only(mesh: Mesh) -> None:
    certificate = own(mesh.owner_site())
    assert wish(certificate, Roots(mesh.root.public), DUE) is Wish.SIGNER


def test_a_delegate_asks_members_only_when_its_right_to_invite_is_about_to_end_anyway(mesh: Mesh) -> None:
    certificate, roots = own(mesh.delegate_site()), Roots(mesh.root.public)
    assert wish(certificate, roots, DUE) is Wish.SIGNER
    assert wish(certificate, roots, NOW + 27 * DAY_S) is Wish.ANYONE


def test_what_only_a_signer_mends_is_brought_to_one_early(mesh: Mesh) -> None:
    roots = Roots(mesh.root.public)
    renewed = own(by_members(mesh, mesh.member_site(), mesh.member_site(), mesh.member_site()), DUE)
    assert wish(renewed, roots, DUE) is Wish.SIGNER
    rotated = rotate_root(mesh.membership, mesh.root, mesh.key(), NOW, mesh.dice)
    assert wish(own(mesh.member_site()), rotated.roots(), NOW) is Wish.SIGNER
    assert wish(rotated.verified(NOW), rotated.roots(), NOW) is Wish.NONE


def test_members_are_left_in_peace_when_they_can_prolong_no_further(mesh: Mesh) -> None:
    asker, one, other = mesh.member_site(), mesh.member_site(), mesh.member_site()
    for step in range(1, 4):
        now = NOW + step * 29 * DAY_S
        one, other = (by_members(mesh, site, asker, third, now) for site, third in ((one, other), (other, one)))
        asker = by_members(mesh, asker, one, other, now)
    last = own(asker, NOW + 89 * DAY_S)
    assert last.expires == horizon(last.issued) == int(NOW) + LIFETIME_S + GRACE_S
    assert wish(last, Roots(mesh.root.public), last.expires - 1) is Wish.SIGNER


def test_owners_and_delegates_are_worth_asking(mesh: Mesh) -> None:
    assert may_sign(own(mesh.owner_site()))
    assert may_sign(own(mesh.delegate_site()))
    assert not may_sign(own(mesh.member_site()))


# By a signer


@pytest.mark.parametrize("role", list(Role))
def test_the_root_renews_everyone_as_what_he_is(mesh: Mesh, role: Role) -> None:
    asker = mesh.member_site(role)
    membership = ask(mesh, renewing(asker), asker, mesh.owner_site())
    assert membership is not None
    fresh = membership.verified(DUE)
    assert (fresh.role, fresh.expires, fresh.renews) == (role, int(DUE) + LIFETIME_S, None)
    assert fresh.serial != own(asker).serial


def test_the_root_makes_delegates_and_unmakes_them(mesh: Mesh) -> None:
    asker, owner = mesh.member_site(), mesh.owner_site()
    named = ask(mesh, renewing(asker, NOW), asker, Renewer(owner, frozenset({asker.key.node})), NOW)
    assert named is not None
    assert named.verified(NOW).caps == {"can_invite"}
    asker = replace(asker, membership=named)
    plain = ask(mesh, renewing(asker, NOW), asker, Renewer(owner), NOW)
    assert plain is not None
    assert plain.verified(NOW).caps == frozenset()


@pytest.mark.parametrize("role", [Role.MEMBER, Role.CLIENT])
def test_a_delegate_renews_within_its_own_life(mesh: Mesh, role: Role) -> None:
    asker, delegate = mesh.member_site(role), mesh.delegate_site(issued=NOW + 10 * DAY_S)
    membership = ask(mesh, renewing(asker), asker, delegate)
    assert membership is not None
    fresh = membership.verified(DUE)
    assert fresh.delegate == own(delegate, DUE)
    assert fresh.expires == own(delegate, DUE).expires


def test_a_delegate_does_not_shorten_a_membership(mesh: Mesh) -> None:
    asker, delegate = mesh.member_site(), mesh.delegate_site(issued=NOW - DAY_S)
    attempt = renewing(asker)
    assert ask(mesh, attempt, asker, delegate) is None  # it countersigned instead
    assert refusal(mesh, mesh.delegate_site(), delegate).code is RefusalCode.NOT_SIGNER


def test_a_delegate_renews_neither_owners_nor_delegates(mesh: Mesh) -> None:
    delegate = mesh.delegate_site(issued=NOW + 10 * DAY_S)
    for asker in (mesh.owner_site(), mesh.delegate_site()):
        assert refusal(mesh, asker, delegate).code is RefusalCode.NOT_SIGNER


def test_a_revoked_delegate_signs_nothing(mesh: Mesh) -> None:
    asker, delegate = mesh.member_site(), mesh.delegate_site(issued=NOW + 10 * DAY_S)
    aware = replace(delegate, revoked=frozenset({delegate.key.node}))
    assert refusal(mesh, asker, aware).code is RefusalCode.REVOKED


def test_a_revoked_delegate_that_alone_could_help_does_not(mesh: Mesh) -> None:
    asker, delegate, now = mesh.member_site(), mesh.delegate_site(issued=NOW + 10 * DAY_S), NOW + 11 * DAY_S
    assert ask(mesh, renewing(asker, now), asker, delegate, now) is not None
    aware = replace(delegate, revoked=frozenset({delegate.key.node}))
    assert refusal(mesh, asker, aware, now).code is RefusalCode.NOT_SIGNER


def test_a_renewal_under_a_new_root_brings_the_news_of_it(mesh: Mesh) -> None:
    asker, new = mesh.member_site(), mesh.key()
    rotated = rotate_root(mesh.membership, mesh.root, new, NOW, mesh.dice)
    owner = replace(mesh.owner_site(), membership=rotated, signer=Signer(new))
    membership = ask(mesh, renewing(asker), asker, owner)
    assert membership is not None
    assert (membership.root_public, membership.successions) == (new.public, rotated.successions)
    assert membership.verified(DUE).root_public == new.public


# By members


def test_two_members_renew_a_third_while_the_owner_is_away(mesh: Mesh) -> None:
    site = by_members(mesh, mesh.member_site(), mesh.member_site(), mesh.member_site())
    certificate = own(site, NOW + 45 * DAY_S)
    assert certificate.expires == int(DUE) + LIFETIME_S
    accepted, _ = mesh.shake(mesh.member_site(issued=DUE), site, now=NOW + 45 * DAY_S)
    assert accepted.peer.node == site.key.node


def test_clients_are_renewed_by_members_too(mesh: Mesh) -> None:
    site = by_members(mesh, mesh.member_site(Role.CLIENT), mesh.member_site(), mesh.owner_site())
    assert own(site, DUE).role is Role.CLIENT


def test_who_was_renewed_by_members_countersigns_and_is_renewed_again(mesh: Mesh) -> None:
    first, second, third = mesh.member_site(), mesh.member_site(), mesh.member_site()
    first = by_members(mesh, first, second, third)
    second, third = by_members(mesh, second, first, third), by_members(mesh, third, first, second)
    later = NOW + 45 * DAY_S
    again = own(by_members(mesh, first, second, third, later), later)
    assert again.expires == int(later) + LIFETIME_S
    assert again.issued == own(first, later).issued


def test_the_signer_comes_back_and_renews_properly(mesh: Mesh) -> None:
    site = by_members(mesh, mesh.member_site(), mesh.member_site(), mesh.member_site())
    membership = ask(mesh, renewing(site, DUE + 1), site, mesh.owner_site(), DUE + 1)
    assert membership is not None
    assert membership.verified(DUE + 1).renews is None


def test_one_member_asked_twice_is_still_one(mesh: Mesh) -> None:
    asker, member = mesh.member_site(), mesh.member_site()
    attempt = renewing(asker)
    assert ask(mesh, attempt, asker, member) is None
    assert ask(mesh, attempt, asker, member) is None


def test_a_member_that_may_not_help_does_not_spoil_the_attempt(mesh: Mesh) -> None:
    asker, client = mesh.member_site(), mesh.member_site(Role.CLIENT)
    attempt = renewing(asker)
    assert ask(mesh, attempt, asker, mesh.member_site()) is None
    with pytest.raises(Refused, match="a client countersigned"):
        ask(mesh, attempt, asker, client)
    assert ask(mesh, attempt, asker, mesh.member_site()) is not None


# Refused by who is asked


def test_members_cannot_do_what_only_a_signer_can(mesh: Mesh) -> None:
    assert refusal(mesh, mesh.member_site(), mesh.member_site(), NOW).code is RefusalCode.NOT_SIGNER
    assert refusal(mesh, mesh.owner_site(), mesh.member_site()).code is RefusalCode.NOT_SIGNER


def test_members_do_not_renew_before_it_is_due(mesh: Mesh) -> None:
    asker, now = mesh.member_site(), DUE - DAY_S
    hasty = by_hand(asker, Span(int(now), int(now) + LIFETIME_S))
    assert answered(mesh, asker, mesh.member_site(), hasty, now).code is RefusalCode.NOT_DUE


@pytest.mark.parametrize("ahead_s", [-3600, 3600])
def test_members_renew_from_now_on_only(mesh: Mesh, ahead_s: int) -> None:
    asker, start = mesh.member_site(), int(DUE) + ahead_s
    refused = answered(mesh, asker, mesh.member_site(), by_hand(asker, Span(start, start + DAY_S)))
    assert "set the clocks" in str(refused)


def test_members_renew_for_no_longer_than_may_be(mesh: Mesh) -> None:
    asker = mesh.member_site()
    greedy = by_hand(asker, Span(int(DUE), int(DUE) + LIFETIME_S + 1))
    assert "by 30 days" in str(answered(mesh, asker, mesh.member_site(), greedy))


def test_members_make_no_owner(mesh: Mesh) -> None:
    asker = mesh.owner_site()
    refused = answered(mesh, asker, mesh.member_site(), by_hand(asker, Span(int(DUE), int(DUE) + DAY_S)))
    assert "cannot make an owner" in str(refused)


def by_hand(asker: Site, span: Span) -> bytes:
    """A request that `Renewing` would not make."""
    proposal = {"not_before": span.not_before, "expires": span.expires}
    message = {"kind": "renew-request", "certificate": membership_of(asker).certificate, "proposal": proposal}
    return bytes(msgpack.packb(message))


def answered(mesh: Mesh, asker: Site, asked: Site, message: bytes, now: float = DUE) -> Refused:
    with pytest.raises(Refused) as caught:
        Renewer(asked).answer(message, asker.key.node, now, mesh.dice)
    return caught.value


@pytest.mark.parametrize("asked", ["owner", "member"])
@pytest.mark.parametrize("name", ["node", "serial"])
def test_the_revoked_are_renewed_by_nobody(mesh: Mesh, asked: str, name: str) -> None:
    asker = mesh.member_site()
    revoked = frozenset({asker.key.node if name == "node" else own(asker).serial})
    site = mesh.owner_site() if asked == "owner" else mesh.member_site()
    assert refusal(mesh, asker, replace(site, revoked=revoked)).code is RefusalCode.REVOKED


@pytest.mark.parametrize("asked", ["owner", "member"])
def test_the_expired_are_renewed_by_nobody(mesh: Mesh, asked: str) -> None:
    site = mesh.owner_site() if asked == "owner" else mesh.member_site(issued=DUE)
    asker, now = mesh.member_site(), NOW + LIFETIME_S + DAY_S
    message = by_hand(asker, Span(int(now), int(now) + DAY_S))
    assert answered(mesh, asker, site, message, now).code is RefusalCode.EXPIRED_CERTIFICATE
    with pytest.raises(Refused, match="expired"):
        renewing(asker, now)


def test_nobody_renews_for_another(mesh: Mesh) -> None:
    victim, thief = mesh.member_site(), mesh.member_site()
    message = renewing(victim).request()
    refused = answered(mesh, thief, mesh.owner_site(), message)
    assert "another node's certificate" in str(refused)


def test_members_of_another_mesh_get_nothing(mesh: Mesh) -> None:
    stranger = Mesh(seed=2).member_site()
    assert refusal(mesh, stranger, mesh.owner_site()).code is RefusalCode.WRONG_MESH


def test_a_member_whose_own_membership_ended_countersigns_nothing(mesh: Mesh) -> None:
    lapsed = mesh.member_site(issued=DUE - LIFETIME_S - DAY_S)
    assert refusal(mesh, mesh.member_site(), lapsed).code is RefusalCode.EXPIRED_CERTIFICATE
    aware = mesh.member_site()
    aware = replace(aware, revoked=frozenset({aware.key.node}))
    assert refusal(mesh, mesh.member_site(), aware).code is RefusalCode.REVOKED


def test_a_node_in_no_mesh_renews_nothing(mesh: Mesh) -> None:
    assert refusal(mesh, mesh.member_site(), mesh.joiner_site()).code is RefusalCode.WRONG_MESH


# Refused by who asked


def fresh(mesh: Mesh, asker: Site, signer: Signer, role: Role = Role.MEMBER, now: float = DUE, **other: Any) -> bytes:
    public = other.get("public", asker.key.public)
    encoded = issue(signer, mesh.membership.mesh_id, public, role, (), now, mesh.dice)
    return wire.encode(Renewed(encoded))


def test_a_certificate_that_is_worth_less_is_not_taken(mesh: Mesh) -> None:
    owner, delegate = mesh.owner_site(), mesh.delegate_site(issued=NOW + 10 * DAY_S)
    asker, helper = mesh.member_site(), mesh.member_site()
    assert delegate.signer is not None
    countersigned = membership_of(by_members(mesh, asker, helper, mesh.member_site())).certificate
    for site, answer in (
        (asker, fresh(mesh, asker, Signer(mesh.root), Role.CLIENT)),
        (asker, fresh(mesh, asker, Signer(mesh.root), now=NOW - DAY_S)),
        (delegate, fresh(mesh, delegate, mesh.delegate_site(issued=DUE).signer or delegate.signer)),
        (asker, wire.encode(Renewed(countersigned))),
    ):
        with pytest.raises(Refused, match="worth less") as caught:
            renewing(site).receive(answer, owner.key.node, DUE)
        assert caught.value.code is RefusalCode.BAD_CERTIFICATE


def test_a_certificate_of_another_node_or_a_stranger_is_not_taken(mesh: Mesh) -> None:
    asker, owner = mesh.member_site(), mesh.owner_site()
    for answer in (
        fresh(mesh, asker, Signer(mesh.root), public=mesh.key().public),
        fresh(mesh, asker, Signer(mesh.key())),
    ):
        with pytest.raises(Refused) as caught:
            renewing(asker).receive(answer, owner.key.node, DUE)
        assert caught.value.code is RefusalCode.BAD_CERTIFICATE


def test_a_countersignature_must_be_the_peers_own_and_hold(mesh: Mesh) -> None:
    asker, member, other = mesh.member_site(), mesh.member_site(), mesh.member_site()
    attempt = renewing(asker)
    genuine = Renewer(member).answer(attempt.request(), asker.key.node, DUE, mesh.dice)
    with pytest.raises(Refused, match="not its own"):
        attempt.receive(genuine, other.key.node, DUE)
    span = Span(int(DUE), int(DUE) + LIFETIME_S)
    for signature in (b"s" * 64, countersign(other.key, own(asker), span)):
        forged = wire.encode(Countersigned(own(member).encoded, signature))
        with pytest.raises(Refused, match="does not hold") as caught:
            attempt.receive(forged, member.key.node, DUE)
        assert caught.value.code is RefusalCode.BAD_PROOF


def test_the_word_of_a_client_spoils_nothing(mesh: Mesh) -> None:
    asker, client = mesh.member_site(), mesh.member_site(Role.CLIENT)
    attempt = renewing(asker)
    assert ask(mesh, attempt, asker, mesh.member_site()) is None
    signature = countersign(client.key, own(asker), Span(int(DUE), int(DUE) + LIFETIME_S))
    with pytest.raises(Refused, match="a client countersigned"):
        attempt.receive(wire.encode(Countersigned(own(client).encoded, signature)), client.key.node, DUE)
    assert ask(mesh, attempt, asker, mesh.member_site()) is not None


def test_the_revoked_are_not_heard_as_countersigners(mesh: Mesh) -> None:
    asker, outcast = mesh.member_site(), mesh.member_site()
    attempt = renewing(asker, revoked=frozenset({outcast.key.node}))
    with pytest.raises(Refused, match="not its own"):
        ask(mesh, attempt, asker, outcast)


def test_a_refusal_reaches_the_asker_in_words(mesh: Mesh) -> None:
    refused = Refused(RefusalCode.NOT_DUE, "come back on Monday")
    with pytest.raises(Refused, match="come back on Monday") as caught:
        renewing(mesh.member_site()).receive(refusal_message(refused), mesh.owner.node, DUE)
    assert caught.value.code is RefusalCode.NOT_DUE


def test_every_message_fits(mesh: Mesh) -> None:
    key, membership = mesh.root, mesh.membership
    for step in range(8):
        new = mesh.key()
        membership = rotate_root(membership, key, new, NOW + step, mesh.dice)
        key = new
    longest = Renewed(b"c" * 1024, membership.successions)
    assert len(wire.encode(longest)) < MAX_MESSAGE_BYTES


# Any bytes at all

FUZZED = Mesh()
ASKER, MEMBER, OWNER = FUZZED.member_site(), FUZZED.member_site(), FUZZED.owner_site()


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_end_in_a_refusal(data: bytes) -> None:
    with pytest.raises(Refused):
        Renewer(OWNER).answer(data, ASKER.key.node, DUE, FUZZED.dice)
    with pytest.raises(Refused):
        renewing(ASKER).receive(data, MEMBER.key.node, DUE)


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_overwritten_requests_renew_only_the_one_who_asked(place: int, patch: bytes) -> None:
    message = overwritten(renewing(ASKER).request(), place, patch)
    try:
        answer = Renewer(MEMBER).answer(message, ASKER.key.node, DUE, FUZZED.dice)
    except Refused:
        return
    asked = wire.decode(message, RenewRequest, peer=None, max_bytes=MAX_MESSAGE_BYTES)
    assert asked.certificate == membership_of(ASKER).certificate
    given_back = wire.decode(answer, Countersigned, peer=None, max_bytes=MAX_MESSAGE_BYTES)
    assert given_back.certificate == membership_of(MEMBER).certificate


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_overwritten_answers_are_refused_or_unchanged(place: int, patch: bytes) -> None:
    attempt = renewing(ASKER)
    for site in (OWNER, MEMBER):
        genuine = Renewer(site).answer(attempt.request(), ASKER.key.node, DUE, FUZZED.dice)
        message = overwritten(genuine, place, patch)
        try:
            membership = attempt.receive(message, site.key.node, DUE)
        except Refused:
            continue
        if membership is not None:
            expected = wire.decode(genuine, Renewed, peer=None, max_bytes=MAX_MESSAGE_BYTES).certificate
            assert membership == msgspec.structs.replace(membership_of(ASKER), certificate=expected)


def overwritten(message: bytes, place: int, patch: bytes) -> bytes:
    edited = bytearray(message)
    start = place % len(edited)
    edited[start : start + len(patch)] = patch
    return bytes(edited)
