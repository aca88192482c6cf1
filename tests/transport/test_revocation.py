from __future__ import annotations

import random

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.meshes import DAY_S, NOW, Mesh
from tests.transport.test_countersigned import ONE, SUBJECT, TWO, delegate, renewed
from transport.certificate import names_in, verify_certificate
from transport.errors import RefusalCode, Refused
from transport.identity import NodeKey, node_id
from transport.interface import Peer, Role
from transport.issuance import Signer, issue
from transport.revocation import (
    MAX_NAMES,
    MAX_REVOCATION_BYTES,
    Names,
    Revocations,
    fallen,
    sign_revocations,
    verify_revocations,
)
from transport.rotation import WINDOW_S, Roots, succeed

MESH = Mesh()
MESH_ID = MESH.membership.mesh_id
ROOTS = Roots(MESH.root.public)
OUTCAST = NodeKey(b"o" * 32).node
NAMES = Names(frozenset({OUTCAST, NodeKey(b"p" * 32).node}), frozenset({b"s" * 12}), frozenset({b"t" * 8}))
GENUINE = sign_revocations(MESH.root, MESH_ID, 1, NAMES, NOW)


def names(count: int, size: int = 32) -> frozenset[bytes]:
    return frozenset(number.to_bytes(size, "big") for number in range(count))


def signed(version: int, *nodes: bytes, root: NodeKey = MESH.root) -> bytes:
    return sign_revocations(root, MESH_ID, version, Names(frozenset(nodes)), NOW)


def refusal(encoded: bytes, roots: Roots = ROOTS, now: float | None = NOW) -> Refused:
    with pytest.raises(Refused) as caught:
        verify_revocations(encoded, roots, MESH_ID, now)
    return caught.value


def test_a_list_says_what_its_root_signed() -> None:
    found = verify_revocations(GENUINE, ROOTS, MESH_ID, NOW)
    assert (found.version, found.signed_at, found.names) == (1, int(NOW), NAMES)
    assert found.names.every == NAMES.nodes | NAMES.serials | NAMES.tokens


def test_a_node_goes_by_the_highest_version_it_has_seen() -> None:
    ours = Revocations(MESH_ID)
    assert ours.revoked == frozenset()
    assert ours.receive(signed(2, OUTCAST), ROOTS, NOW)
    assert ours.revoked == {OUTCAST}
    assert not ours.receive(signed(1), ROOTS, NOW)
    assert not ours.receive(signed(2, OUTCAST), ROOTS, NOW)
    assert ours.revoked == {OUTCAST}
    assert ours.receive(signed(3), ROOTS, NOW)
    assert ours.revoked == frozenset()


@given(st.permutations(range(1, 6)))
@settings(max_examples=30, deadline=None)
def test_whatever_the_order_all_end_with_the_same_list(versions: list[int]) -> None:
    ours = Revocations(MESH_ID)
    for version in versions:
        ours.receive(signed(version, bytes([version]) * 32), ROOTS, NOW)
    assert ours.revoked == {b"\x05" * 32}


def test_two_lists_of_one_version_end_alike_everywhere() -> None:
    """The root key was restored on a second host, and both wrote the next version."""
    one, other = signed(4, b"a" * 32), signed(4, b"b" * 32)
    first, second = Revocations(MESH_ID), Revocations(MESH_ID)
    for ours, order in ((first, (one, other)), (second, (other, one))):
        for encoded in order:
            ours.receive(encoded, ROOTS, NOW)
    assert first.revoked == second.revoked != frozenset()


def test_the_owner_adds_and_drops_names() -> None:
    ours, serial = Revocations(MESH_ID), b"s" * 12
    ours.receive(ours.amend(MESH.root, Names(frozenset({OUTCAST})), NOW), ROOTS, NOW)
    ours.receive(ours.amend(MESH.root, Names(serials=frozenset({serial})), NOW), ROOTS, NOW)
    assert ours.revoked == {OUTCAST, serial}
    ours.receive(ours.amend(MESH.root, Names(), NOW, drop=Names(frozenset({OUTCAST}))), ROOTS, NOW)
    assert ours.revoked == {serial}
    assert ours.current is not None
    assert ours.current.version == 3


def test_a_list_survives_the_disk() -> None:
    ours = Revocations(MESH_ID)
    ours.receive(GENUINE, ROOTS, NOW)
    assert ours.current is not None
    again = Revocations.from_bytes(ours.current.encoded, ROOTS, MESH_ID)
    assert (again.revoked, again.current) == (ours.revoked, ours.current)


@pytest.mark.parametrize("signer", ["a stranger", "the owner's node", "a delegate"])
def test_only_the_root_signs(signer: str) -> None:
    key = {"a stranger": MESH.key(), "the owner's node": MESH.owner, "a delegate": delegate().key}[signer]
    assert "not by this mesh's root" in str(refusal(signed(9, OUTCAST, root=key)))
    ours = Revocations(MESH_ID)
    with pytest.raises(Refused):
        ours.receive(signed(9, OUTCAST, root=key), ROOTS, NOW)
    assert ours.revoked == frozenset()


def test_a_list_of_another_mesh_is_refused() -> None:
    """The same root key may have founded two meshes."""
    assert refusal(sign_revocations(MESH.root, b"o" * 16, 1, NAMES, NOW)).code is RefusalCode.WRONG_MESH


def test_a_full_list_fits_and_a_longer_one_is_neither_signed_nor_read() -> None:
    full = Names(names(MAX_NAMES), names(MAX_NAMES, 12), names(MAX_NAMES, 8))
    encoded = sign_revocations(MESH.root, MESH_ID, 2**53 - 1, full, NOW)
    assert len(encoded) <= MAX_REVOCATION_BYTES
    assert verify_revocations(encoded, ROOTS, MESH_ID, NOW).names == full
    for long in (Names(names(MAX_NAMES + 1)), Names(serials=names(MAX_NAMES + 1, 12))):
        with pytest.raises(ValueError, match="at most 1024 of a kind"):
            sign_revocations(MESH.root, MESH_ID, 1, long, NOW)
    assert "max_array_len" in str(refusal(by_hand(nodes=sorted(names(MAX_NAMES + 1)))))
    assert "at most 65536 bytes" in str(refusal(bytes(MAX_REVOCATION_BYTES + 1)))


def by_hand(version: int = 1, nodes: object = (), serials: object = (), tokens: object = ()) -> bytes:
    """A list under a good signature that `sign_revocations` would not write."""
    body = msgpack.packb([MESH_ID, version, int(NOW), nodes, serials, tokens])
    return bytes(msgpack.packb([body, MESH.root.sign(b"meshd-revocation-v1" + body)]))


@pytest.mark.parametrize(
    "encoded",
    [
        by_hand(version=0),
        by_hand(version=1 << 53),
        by_hand(nodes=[b"n" * 31]),
        by_hand(serials=[b"n" * 32]),
        by_hand(tokens=[b"n" * 12]),
        by_hand(nodes=[b"b" * 32, b"a" * 32]),
        by_hand(nodes=[b"a" * 32, b"a" * 32]),
        by_hand(nodes="nobody"),
    ],
)
def test_what_the_root_signed_must_still_be_a_list(encoded: bytes) -> None:
    assert refusal(encoded).code is RefusalCode.BAD_CERTIFICATE


def test_a_later_root_has_the_last_word() -> None:
    new = MESH.key()
    roots = Roots.of(MESH_ID, new.public, [succeed(MESH.root, new, MESH_ID, NOW)])
    ours = Revocations(MESH_ID)
    assert ours.receive(signed(7, OUTCAST), roots, NOW)
    assert ours.receive(signed(1, b"n" * 32, root=new), roots, NOW)
    assert not ours.receive(signed(2**53 - 1, root=MESH.root), roots, NOW)
    assert ours.revoked == {b"n" * 32}


def test_a_root_out_of_office_signs_nothing_new_yet_its_list_is_kept() -> None:
    new, late = MESH.key(), NOW + WINDOW_S + DAY_S
    roots = Roots.of(MESH_ID, new.public, [succeed(MESH.root, new, MESH_ID, NOW)])
    assert refusal(GENUINE, roots, late).code is RefusalCode.EXPIRED_CERTIFICATE
    assert Revocations.from_bytes(GENUINE, roots, MESH_ID).revoked == NAMES.every


def test_connected_peers_fall_with_what_their_certificate_stands_on() -> None:
    # The mesh's own dice would throw what those of `ONE` threw, which began alike: how far they are is up to the order
    # of the tests.
    signer, dice = delegate(), random.Random("another serial").randbytes
    encoded = issue(signer, MESH_ID, NodeKey.generate(dice).public, Role.MEMBER, (), NOW, dice)
    by_delegate, by_members = peer(encoded), peer(renewed(SUBJECT, ONE, TWO))
    assert signer.certificate is not None
    peers = (by_delegate, by_members)
    assert fallen(peers, frozenset({signer.certificate.node})) == (by_delegate.node,)
    assert fallen(peers, frozenset({ONE.issued.serial})) == (by_members.node,)
    assert fallen(peers, frozenset({by_delegate.node, by_members.node})) == (by_delegate.node, by_members.node)
    assert fallen(peers, NAMES.every) == ()


def peer(encoded: bytes) -> Peer:
    certificate = verify_certificate(encoded, MESH.root.public, MESH_ID, NOW + 20 * DAY_S)
    assert names_in(encoded) == certificate.names
    return Peer(node_id(certificate.node_public), certificate.role, 1, "peer", encoded)


def test_names_are_read_of_certificates_only() -> None:
    issued = issue(Signer(MESH.root), MESH_ID, MESH.key().public, Role.MEMBER, (), NOW, MESH.dice)
    assert len(names_in(issued)) == 2
    for hostile in (b"", b"\x97\x02", issued[:-1]):
        with pytest.raises(Refused):
            names_in(hostile)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_end_in_a_refusal(data: bytes) -> None:
    assert refusal(data).code is RefusalCode.BAD_CERTIFICATE


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_body_ends_in_a_refusal_though_the_root_signed_it(body: bytes) -> None:
    refusal(bytes(msgpack.packb([body, MESH.root.sign(b"meshd-revocation-v1" + body)])))


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_no_change_passes(place: int, patch: bytes) -> None:
    edited = bytearray(GENUINE)
    place %= len(edited)
    edited[place : place + len(patch)] = patch
    if bytes(edited) != GENUINE:
        refusal(bytes(edited))
