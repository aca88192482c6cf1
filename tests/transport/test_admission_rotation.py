"""Handshakes while a mesh changes its root key: who knows of it already, and who does not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import pytest

from tests.transport.meshes import BINDING, DAY_S, NOW, Mesh
from transport.admission import MAX_MESSAGE_BYTES, ClientAdmission, ServerAdmission
from transport.certificate import Membership, Signer, issue, rotate_root
from transport.errors import RefusalCode, Refused
from transport.identity import NodeKey
from transport.interface import Role
from transport.rotation import WINDOW_S, Roots, succeed
from transport.site import Site


@dataclass
class Rotated:
    """A mesh whose owner has put a new root in office at NOW."""

    mesh: Mesh
    new: NodeKey
    membership: Membership

    @property
    def owner(self) -> Site:
        return replace(self.mesh.owner_site(), membership=self.membership, signer=Signer(self.new))

    def member(self, issued: float = NOW) -> Site:
        """A node that the new root has confirmed, and that knows the chain."""
        key = self.mesh.key()
        mesh_id = self.membership.mesh_id
        encoded = issue(Signer(self.new), mesh_id, key.public, Role.MEMBER, (), issued, self.mesh.dice)
        return Site(key, "member", 1, self.membership.renewed(encoded), Role.MEMBER)


@pytest.fixture
def rotated() -> Rotated:
    mesh, new = Mesh(), NodeKey(b"n" * 32)
    return Rotated(mesh, new, rotate_root(mesh.membership, mesh.root, new, NOW, mesh.dice))


def refusal(rotated: Rotated, server: Site, client: Site, **options: object) -> Refused:
    with pytest.raises(Refused) as caught:
        rotated.mesh.shake(server, client, **options)  # type: ignore[arg-type]
    return caught.value


def test_a_member_that_dials_hears_of_the_new_root(rotated: Rotated) -> None:
    behind = rotated.mesh.member_site()
    accepted, admitted = rotated.mesh.shake(rotated.owner, behind)
    assert accepted.membership is None
    assert admitted.membership is not None
    assert (admitted.membership.root_public, admitted.membership.successions) == (
        rotated.new.public,
        rotated.membership.successions,
    )
    assert behind.membership is not None
    assert admitted.membership.certificate == behind.membership.certificate
    _, again = rotated.mesh.shake(rotated.member(), replace(behind, membership=admitted.membership))
    assert again.membership is None


def test_a_member_that_is_dialled_hears_of_the_new_root(rotated: Rotated) -> None:
    behind = rotated.mesh.member_site()
    accepted, admitted = rotated.mesh.shake(behind, rotated.member())
    assert admitted.membership is None
    assert accepted.membership is not None
    assert accepted.membership.root_public == rotated.new.public
    assert accepted.membership.verified(NOW).node == behind.key.node


def test_two_members_behind_meet_as_ever(rotated: Rotated) -> None:
    accepted, admitted = rotated.mesh.shake(rotated.mesh.member_site(), rotated.mesh.member_site())
    assert (accepted.membership, admitted.membership) == (None, None)


def test_certificates_of_the_old_root_are_taken_in_the_window_and_refused_after_it(rotated: Rotated) -> None:
    backdated = rotated.mesh.member_site(issued=NOW + WINDOW_S - DAY_S)
    rotated.mesh.shake(rotated.member(NOW + 20 * DAY_S), backdated, now=NOW + WINDOW_S)
    late = NOW + WINDOW_S + DAY_S
    refused = refusal(rotated, rotated.member(NOW + 20 * DAY_S), backdated, now=late)
    assert refused.code is RefusalCode.EXPIRED_CERTIFICATE
    assert "replaced" in str(refused)
    assert refusal(rotated, backdated, rotated.member(NOW + 20 * DAY_S), now=late).code is refused.code


def test_a_token_from_before_the_rotation_still_admits(rotated: Rotated) -> None:
    invite, joiner = rotated.mesh.invite(), rotated.mesh.joiner_site()
    _, admitted = rotated.mesh.shake(rotated.owner, joiner, invite)
    assert admitted.membership is not None
    assert admitted.membership.root_public == rotated.new.public
    assert admitted.membership.verified(NOW).root_public == rotated.new.public
    rotated.mesh.shake(rotated.member(), replace(joiner, membership=admitted.membership))


def test_a_token_from_before_the_rotation_is_worthless_after_the_window(rotated: Rotated) -> None:
    invite = rotated.mesh.invite(ttl_s=90 * DAY_S)
    late = NOW + WINDOW_S + DAY_S
    server = rotated.member(late - DAY_S)
    refused = refusal(rotated, server, rotated.mesh.joiner_site(), invite=invite, now=late)
    assert refused.code is RefusalCode.TOKEN_EXPIRED
    assert "meshd token create" in str(refused)


def test_a_token_from_after_the_rotation_admits_too(rotated: Rotated) -> None:
    mesh = rotated.mesh
    mesh.book.adopt(rotated.membership)
    _, admitted = mesh.shake(rotated.owner, mesh.joiner_site(), mesh.invite())
    assert admitted.membership is not None
    assert admitted.membership.root_public == rotated.new.public


def test_a_token_from_after_the_rotation_does_not_trust_who_only_knows_the_old_root(rotated: Rotated) -> None:
    rotated.mesh.book.adopt(rotated.membership)
    refused = refusal(rotated, rotated.mesh.owner_site(), rotated.mesh.joiner_site(), invite=rotated.mesh.invite())
    assert refused.code is RefusalCode.BAD_CERTIFICATE


def test_a_root_without_a_succession_from_ours_is_an_impostor(rotated: Rotated) -> None:
    unlinked = replace(rotated.owner, membership=msgspec.structs.replace(rotated.membership, successions=()))
    for client, invite in ((rotated.mesh.member_site(), None), (rotated.mesh.joiner_site(), rotated.mesh.invite())):
        refused = refusal(rotated, unlinked, client, invite=invite)
        assert refused.code is RefusalCode.BAD_CERTIFICATE
        assert "another root key" in str(refused)


def test_a_second_successor_is_refused_by_who_knows_the_first(rotated: Rotated) -> None:
    mesh = rotated.mesh
    rival = Rotated(mesh, mesh.key(), rotate_root(mesh.membership, mesh.root, mesh.key(), NOW, mesh.dice))
    for server, client in ((rival.owner, rotated.member()), (rotated.member(), rival.owner)):
        refused = refusal(rotated, server, client)
        assert refused.code is RefusalCode.BAD_CERTIFICATE
        assert "another successor" in str(refused)


def test_every_message_fits_after_eight_rotations(rotated: Rotated) -> None:
    mesh, key, membership = rotated.mesh, rotated.new, rotated.membership
    for step in range(1, 9):
        new = mesh.key()
        membership, key = rotate_root(membership, key, new, NOW + step, mesh.dice), new
    assert len(membership.successions) == 8
    names = {"name": "\U0001f41d" * 64, "boot": 2**53 - 1}
    far = msgspec.structs.replace(membership, mesh_name="\U0001f41d" * 64)
    server = ServerAdmission(replace(mesh.owner_site(), membership=far, **names), BINDING, mesh.dice)  # type: ignore[arg-type]
    hello = server.start()
    longest_certificate = 1024 - len(far.certificate)
    assert len(hello) + longest_certificate < MAX_MESSAGE_BYTES
    ahead = replace(mesh.owner_site(), key=mesh.key(), **names)  # type: ignore[arg-type]
    encoded = issue(Signer(key), far.mesh_id, ahead.key.public, Role.OWNER, (), NOW, mesh.dice)
    ahead = replace(ahead, membership=far.renewed(encoded))
    first = Roots.of(far.mesh_id, far.root_public, far.successions).links[0].old_public
    assert first == rotated.new.public  # the oldest root is forgotten by now
    behind = ServerAdmission(rotated.member(), BINDING, mesh.dice)
    proof = ClientAdmission(ahead, BINDING, mesh.dice).receive(behind.start(), NOW + 8)
    assert isinstance(proof, bytes)
    assert len(proof) + 1024 - len(encoded) < MAX_MESSAGE_BYTES
    accepted = behind.receive(proof, NOW + 8)
    assert accepted.membership is not None
    assert accepted.membership.root_public == key.public


@pytest.mark.parametrize("edit", ["forge", "cut"])
def test_a_hello_with_a_damaged_chain_is_refused(rotated: Rotated, edit: str) -> None:
    (genuine,) = rotated.membership.successions
    forged = succeed(NodeKey(b"f" * 32), rotated.new, rotated.membership.mesh_id, NOW)
    broken = {"forge": forged, "cut": genuine[:-1]}[edit]
    lying = replace(rotated.owner, membership=msgspec.structs.replace(rotated.membership, successions=(broken,)))
    server = ServerAdmission(lying, BINDING, rotated.mesh.dice)
    client = ClientAdmission(rotated.mesh.member_site(), BINDING, rotated.mesh.dice)
    with pytest.raises(Refused) as caught:
        client.receive(server.start(), NOW)
    assert caught.value.code is RefusalCode.BAD_CERTIFICATE
