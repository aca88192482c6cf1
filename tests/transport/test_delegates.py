"""From the owner's word that a member may invite, to a node that joined by it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.transport.meshes import DAY_S, NOW, Mesh
from transport.certificate import LIFETIME_S, Signer, delegate_signer
from transport.errors import RefusalCode, Refused
from transport.interface import Role
from transport.renewal import Renewer, Renewing
from transport.site import Site
from transport.token_book import TokenBook


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def refusal(mesh: Mesh, server: Site, client: Site, **options: object) -> Refused:
    with pytest.raises(Refused) as caught:
        mesh.shake(server, client, **options)  # type: ignore[arg-type]
    return caught.value


def test_a_member_becomes_a_delegate_and_admits_a_node_by_its_own_token(mesh: Mesh) -> None:
    member = mesh.member_site()
    assert member.membership is not None
    attempt = Renewing(member.key, member.membership, frozenset(), NOW)
    owner = Renewer(mesh.owner_site(), frozenset({member.key.node}))
    answer = owner.answer(attempt.request(), member.key.node, NOW, mesh.dice)
    membership = attempt.receive(answer, mesh.owner.node, NOW)
    assert membership is not None
    signer = delegate_signer(member.key, membership, NOW)
    book = TokenBook(member.key, membership, mesh.dice(32))
    delegate = replace(member, membership=membership, tokens=book, signer=signer)

    joiner, invite = mesh.joiner_site(), mesh.invite_of(delegate)
    accepted, admitted = mesh.shake(delegate, joiner, invite, expected=delegate.key.node)

    assert accepted.redeemed == invite.token_id
    assert admitted.membership is not None
    again, _ = mesh.shake(mesh.member_site(), replace(joiner, membership=admitted.membership))
    assert (again.peer.node, again.peer.role) == (joiner.key.node, Role.MEMBER)
    assert book.list(NOW)[0].uses_left == 0


def test_only_a_certificate_that_says_so_makes_a_signer(mesh: Mesh) -> None:
    member, owner = mesh.member_site(), mesh.owner_site()
    assert member.membership is not None
    assert owner.membership is not None
    assert delegate_signer(member.key, member.membership, NOW) is None
    assert delegate_signer(owner.key, owner.membership, NOW) is not None


def test_each_book_redeems_its_own_tokens(mesh: Mesh) -> None:
    """The other's are for it to judge: here nobody asks it."""
    delegate = mesh.delegate_site()
    refused = refusal(mesh, delegate, mesh.joiner_site(), invite=mesh.invite())
    assert refused.code is RefusalCode.NOT_ISSUER
    refused = refusal(mesh, mesh.owner_site(), mesh.joiner_site(), invite=mesh.invite_of(delegate))
    assert refused.code is RefusalCode.NOT_ISSUER


def test_whom_a_delegate_admitted_falls_with_it(mesh: Mesh) -> None:
    delegate, joiner = mesh.delegate_site(), mesh.joiner_site()
    _, admitted = mesh.shake(delegate, joiner, mesh.invite_of(delegate))
    site = replace(joiner, membership=admitted.membership)
    revoked = frozenset({delegate.key.node})
    assert refusal(mesh, mesh.owner_site(revoked), site).code is RefusalCode.REVOKED


@pytest.mark.parametrize("ended", ["by time", "by the list"])
def test_a_delegate_whose_own_membership_ended_spends_no_use(mesh: Mesh, ended: str) -> None:
    """Clocks may differ by ten minutes, and the joiner has no list yet: it would not notice."""
    delegate = mesh.delegate_site(issued=NOW - LIFETIME_S if ended == "by time" else NOW)
    if ended == "by the list":
        delegate = replace(delegate, revoked=frozenset({delegate.key.node}))
    refused = refusal(mesh, delegate, mesh.joiner_site(), invite=mesh.invite_of(delegate))
    assert refused.code is RefusalCode.NOT_ISSUER
    assert "its own membership has ended" in str(refused)
    assert delegate.tokens is not None
    assert delegate.tokens.list(NOW)[0].uses_left == 1


def test_the_owner_shuts_out_a_delegates_token_by_the_list(mesh: Mesh) -> None:
    delegate = mesh.delegate_site()
    invite = mesh.invite_of(delegate)
    aware = replace(delegate, revoked=frozenset({invite.token_id}))
    assert refusal(mesh, aware, mesh.joiner_site(), invite=invite).code is RefusalCode.TOKEN_REVOKED


def test_members_admitted_by_a_delegate_end_with_it_at_the_latest(mesh: Mesh) -> None:
    delegate = mesh.delegate_site(issued=NOW - 20 * DAY_S)
    _, admitted = mesh.shake(delegate, mesh.joiner_site(), mesh.invite_of(delegate))
    assert admitted.membership is not None
    assert admitted.membership.verified(NOW).expires == int(NOW) + 10 * DAY_S


def test_the_owner_itself_signs_with_the_root(mesh: Mesh) -> None:
    _, admitted = mesh.shake(replace(mesh.owner_site(), signer=Signer(mesh.root)), mesh.joiner_site(), mesh.invite())
    assert admitted.membership is not None
    assert admitted.membership.verified(NOW).delegate is None
