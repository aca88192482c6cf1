"""Statements about oneself: their order, and what makes one believable."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.member import (
    LocalNode,
    MemberBody,
    MemberRecord,
    Standing,
    merge,
    open_member,
    read_body,
    seal_member,
)
from gossip.message import MemberRumour, decode_rumour, fits_datagram
from gossip.view import Status
from tests.gossip.identities import MESH_ID, RealMesh
from transport.certificate import Signer, issue
from transport.errors import ProtocolError
from transport.identity import NodeKey
from transport.interface import NodeId, Role
from transport.wire import encode

PEER = NodeId(b"p" * 32)
standings = st.builds(Standing, st.integers(0, 3), st.integers(0, 3), st.sampled_from(Status))


@given(standings, standings)
def test_merge_is_commutative(one: Standing, other: Standing) -> None:
    assert merge(one, other) == merge(other, one)


@given(standings, standings, standings)
def test_merge_is_associative(one: Standing, two: Standing, three: Standing) -> None:
    assert merge(merge(one, two), three) == merge(one, merge(two, three))


@given(standings)
def test_merge_is_idempotent(one: Standing) -> None:
    assert merge(one, one) == one


@given(standings, standings)
def test_merge_never_goes_back(one: Standing, other: Standing) -> None:
    assert merge(one, other) >= one


def test_boot_outranks_incarnation_outranks_status() -> None:
    assert merge(Standing(2, 0, Status.ALIVE), Standing(1, 9, Status.LEFT)).boot == 2
    assert merge(Standing(1, 3, Status.ALIVE), Standing(1, 2, Status.DEAD)).status is Status.ALIVE
    assert merge(Standing(1, 2, Status.ALIVE), Standing(1, 2, Status.SUSPECT)).status is Status.SUSPECT
    assert merge(Standing(1, 2, Status.DEAD), Standing(1, 2, Status.LEFT)).status is Status.LEFT


def body_of(me: LocalNode) -> MemberBody:
    return MemberBody(me.node, 3, 4, False, me.name, (("10.0.0.1", 7842), ("fe80::1", 7842)), 1)


def sealed(me: LocalNode, mesh_id: bytes = MESH_ID) -> bytes:
    return seal_member(body_of(me), me.certificate, me.signer, mesh_id)


def opened(mesh: RealMesh, encoded: bytes) -> MemberRecord:
    rumour = decode_rumour(encoded, PEER)
    assert isinstance(rumour, MemberRumour)
    return open_member(rumour, read_body(rumour, PEER), mesh.verifier(), MESH_ID, PEER)


def test_a_record_says_what_its_subject_sealed() -> None:
    mesh = RealMesh()
    alice = mesh.member("alice")
    record = opened(mesh, sealed(alice))
    assert (record.node, record.name, record.boot, record.incarnation) == (alice.node, "alice", 3, 4)
    assert [address.host for address in record.addresses] == ["10.0.0.1", "fe80::1"]
    assert record.role is Role.MEMBER
    assert record.standing == Standing(3, 4, Status.ALIVE)
    assert fits_datagram(record.encoded)


def test_a_delegated_members_record_still_fits_a_datagram() -> None:
    mesh = RealMesh()
    alice = mesh.member("a" * 64)
    places = tuple(("2001:db8:1234:5678:9abc:def0:1234:5678", 65535) for _ in range(6))
    body = replace_body(body_of(alice), addresses=places)
    # A certificate by a delegate carries the delegate's: about twice as long.
    assert fits_datagram(seal_member(body, alice.certificate * 2, alice.signer, MESH_ID))


def replace_body(body: MemberBody, **changes: object) -> MemberBody:
    return msgspec.structs.replace(body, **changes)


@pytest.mark.parametrize("changes", [{"boot": 9}, {"incarnation": 9}, {"has_left": True}, {"addresses": ()}])
def test_an_edited_record_is_refused(changes: dict[str, object]) -> None:
    mesh = RealMesh()
    rumour = decode_rumour(sealed(mesh.member("alice")), PEER)
    assert isinstance(rumour, MemberRumour)
    body = encode(replace_body(read_body(rumour, PEER), **changes))
    with pytest.raises(ProtocolError, match="forged"):
        opened(mesh, encode(msgspec.structs.replace(rumour, body=body)))


def test_a_record_signed_with_another_key_is_refused() -> None:
    mesh = RealMesh()
    alice, mallory = mesh.member("alice"), mesh.member("mallory")
    with pytest.raises(ProtocolError, match="forged"):
        opened(mesh, sealed(replace(alice, signer=mallory.signer)))


def test_a_record_under_another_nodes_certificate_is_refused() -> None:
    mesh = RealMesh()
    alice, mallory = mesh.member("alice"), mesh.member("mallory")
    with pytest.raises(ProtocolError, match="another node's certificate"):
        opened(mesh, sealed(replace(alice, certificate=mallory.certificate, signer=mallory.signer)))


def test_a_record_from_another_mesh_is_refused() -> None:
    mesh = RealMesh()
    alice = mesh.member("alice")
    with pytest.raises(ProtocolError, match="forged"):
        opened(mesh, sealed(alice, mesh_id=b"o" * 16))
    with pytest.raises(ProtocolError, match="not valid here"):
        opened(mesh, sealed(RealMesh(seed=7).member("eve")))


def test_a_client_cannot_pass_for_a_member() -> None:
    mesh = RealMesh()
    with pytest.raises(ProtocolError, match="as a member"):
        opened(mesh, sealed(mesh.member("laptop", Role.CLIENT)))


def test_a_certificate_that_its_own_node_signed_is_refused() -> None:
    mesh = RealMesh()
    alice = mesh.member("alice")
    own_root = NodeKey(b"e" * 32)
    forged = issue(Signer(own_root), MESH_ID, alice.public, Role.OWNER, (), 1_800_000_000.0, lambda size: b"s" * size)
    with pytest.raises(ProtocolError, match="not valid here"):
        opened(mesh, sealed(replace(alice, certificate=forged)))


def test_a_name_cannot_smuggle_control_characters() -> None:
    mesh = RealMesh()
    alice = mesh.member("alice\n\x1b[31m")
    assert opened(mesh, sealed(alice)).name == "alice??[31m"
