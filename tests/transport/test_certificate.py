from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.meshes import DAY_S, NOW, Mesh
from transport.certificate import (
    LIFETIME_S,
    Capability,
    MemberCertificate,
    Membership,
    Signer,
    found_mesh,
    issue,
    span_text,
    verify_certificate,
)
from transport.errors import MeshError, ProtocolError, RefusalCode, Refused
from transport.identity import NodeKey
from transport.interface import Role

MESH = Mesh()


def make(
    signer: Signer | None = None,
    role: Role = Role.MEMBER,
    caps: tuple[Capability, ...] = (),
    now: float = NOW,
    key: NodeKey | None = None,
) -> bytes:
    key = key or MESH.key()
    return issue(signer or Signer(MESH.root), MESH.membership.mesh_id, key.public, role, caps, now, MESH.dice)


def check(encoded: bytes, now: float = NOW) -> MemberCertificate:
    return verify_certificate(encoded, MESH.root.public, MESH.membership.mesh_id, now)


def refusal(encoded: bytes, now: float = NOW) -> Refused:
    with pytest.raises(Refused) as caught:
        check(encoded, now)
    return caught.value


def delegate_signer(now: float = NOW) -> Signer:
    key = MESH.key()
    return Signer(key, check(make(caps=("can_invite",), now=now, key=key), now))


def test_founder_owns_the_mesh_and_may_invite() -> None:
    own = MESH.membership.verified(NOW)
    assert (own.role, own.caps, own.node) == (Role.OWNER, frozenset({"can_invite"}), MESH.owner.node)
    assert len(MESH.membership.mesh_id) == 16


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb"])
def test_a_mesh_needs_a_name_that_can_be_shown(name: str) -> None:
    with pytest.raises(ValueError, match="mesh name"):
        found_mesh(name, MESH.root, MESH.owner, NOW, MESH.dice)


@pytest.mark.parametrize("role", list(Role))
def test_root_signed_certificate_says_what_was_issued_in_under_200_bytes(role: Role) -> None:
    key = MESH.key()
    certificate = check(make(role=role, key=key))
    assert (certificate.node_public, certificate.role, certificate.delegate) == (key.public, role, None)
    assert certificate.expires - certificate.not_before == LIFETIME_S
    assert len(certificate.encoded) <= 200


def test_serials_differ() -> None:
    assert check(make()).serial != check(make()).serial


@pytest.mark.parametrize("signed_by", ["root", "delegate"])
def test_a_change_of_any_byte_is_refused(signed_by: str) -> None:
    encoded = make(delegate_signer() if signed_by == "delegate" else None)
    for place in range(len(encoded)):
        for change in (0x01, 0x80, 0xFF):
            edited = bytearray(encoded)
            edited[place] ^= change
            assert refusal(bytes(edited)).code in (RefusalCode.BAD_CERTIFICATE, RefusalCode.WRONG_MESH)
    for cut in (encoded[:-1], encoded + b"\x00", b""):
        assert refusal(cut).code is RefusalCode.BAD_CERTIFICATE


def test_another_spelling_of_the_same_certificate_is_refused() -> None:
    body, signature, delegate = msgpack.unpackb(make())
    longer = b"\x93\xc5" + len(body).to_bytes(2, "big") + body + msgpack.packb(signature) + msgpack.packb(delegate)
    assert "encoding" in str(refusal(longer))


def test_another_root_is_refused() -> None:
    assert refusal(make(Signer(MESH.key()))).code is RefusalCode.BAD_CERTIFICATE


def test_another_mesh_is_named_as_such() -> None:
    other = Mesh(seed=2)
    refused = refusal(other.membership.certificate)
    assert refused.code is RefusalCode.WRONG_MESH
    assert "token" in str(refused)


@pytest.mark.parametrize(
    ("offset_s", "code"),
    [
        (-601, RefusalCode.BAD_CERTIFICATE),
        (-600, None),
        (LIFETIME_S + 600, None),
        (LIFETIME_S + 601, RefusalCode.EXPIRED_CERTIFICATE),
    ],
)
def test_clocks_may_differ_by_ten_minutes(offset_s: int, code: RefusalCode | None) -> None:
    encoded = make()
    if code is None:
        check(encoded, NOW + offset_s)
    else:
        assert refusal(encoded, NOW + offset_s).code is code


def test_expiry_tells_when_and_what_to_do() -> None:
    text = str(refusal(make(), NOW + LIFETIME_S + 3 * 3600))
    assert "expired 3 h ago" in text
    assert "meshd token create" in text


def test_a_start_in_the_future_speaks_of_clocks() -> None:
    assert "set the clocks" in str(refusal(make(), NOW - 7200))


def test_renewal_is_due_at_two_thirds() -> None:
    certificate = check(make())
    assert not certificate.renew_due(NOW + 20 * DAY_S - 1)
    assert certificate.renew_due(NOW + 20 * DAY_S)


def test_delegate_admits_members_and_clients() -> None:
    signer = delegate_signer()
    for role in (Role.MEMBER, Role.CLIENT):
        certificate = check(make(signer, role))
        assert certificate.role is role
        assert certificate.delegate is not None
        assert certificate.delegate.node == signer.key.node


@pytest.mark.parametrize(("role", "caps"), [(Role.OWNER, ()), (Role.MEMBER, ("can_invite",))])
def test_delegate_cannot_hand_on_its_rights(role: Role, caps: tuple[Capability, ...]) -> None:
    signer = delegate_signer()
    with pytest.raises(ValueError, match="root key"):
        make(signer, role, caps)
    forged = forge(signer, make(role=role, caps=caps))
    assert "more than it has" in str(refusal(forged))


def test_a_certificate_ends_with_its_delegates() -> None:
    signer = delegate_signer(now=NOW - 25 * DAY_S)
    assert signer.certificate is not None
    assert check(make(signer)).expires == signer.certificate.expires
    assert "more than it has" in str(refusal(forge(signer, make())))


def test_a_delegate_of_a_delegate_is_refused() -> None:
    first = delegate_signer()
    key = MESH.key()
    second = Signer(key, check(make(first, key=key)))
    assert "only the root" in str(refusal(make(second)))


def test_a_member_without_the_capability_cannot_sign() -> None:
    key = MESH.key()
    assert "may not invite" in str(refusal(make(Signer(key, check(make(key=key))))))


def test_delegates_expiry_is_checked_too() -> None:
    encoded = make(delegate_signer())
    assert refusal(encoded, NOW + LIFETIME_S + 700).code is RefusalCode.EXPIRED_CERTIFICATE


def test_revocation_names_a_serial_a_node_or_the_delegate_behind_it() -> None:
    certificate = check(make(delegate_signer()))
    assert certificate.delegate is not None
    for name in (certificate.serial, certificate.node, certificate.delegate.serial, certificate.delegate.node):
        assert certificate.revoked_by(frozenset({name}))
    assert not certificate.revoked_by(frozenset({MESH.owner.node}))


def test_membership_survives_the_disk() -> None:
    assert Membership.from_bytes(MESH.membership.to_bytes()) == MESH.membership


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_no_bytes_but_a_certificate_pass(data: bytes) -> None:
    with pytest.raises(MeshError):
        check(data)
    with pytest.raises(ProtocolError, match="membership file"):
        Membership.from_bytes(data)


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_overwritten_memberships_are_read_or_refused(place: int, patch: bytes) -> None:
    data = bytearray(MESH.membership.to_bytes())
    place %= len(data)
    data[place : place + len(patch)] = patch
    try:
        Membership.from_bytes(bytes(data)).verified(NOW)
    except MeshError:
        return


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "1 h"), (86400 * 3.5, "3 d")]
)
def test_spans_read_well(seconds: float, text: str) -> None:
    assert span_text(seconds) == text


def forge(signer: Signer, root_signed: bytes) -> bytes:
    """The body of `root_signed` under the delegate's signature: what `issue` would not sign for it."""
    assert signer.certificate is not None
    body, _, _ = msgpack.unpackb(root_signed)
    signature = signer.key.sign(b"meshd-certificate-v1" + body)
    return bytes(msgpack.packb([body, signature, signer.certificate.encoded]))
