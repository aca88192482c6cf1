from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.meshes import ADDRESSES, DAY_S, NOW, Mesh
from transport import wire
from transport.errors import BadToken
from transport.identity import NodeKey
from transport.interface import Role
from transport.invite import Invite, format_token, parse_token, root_fingerprint

MESH = Mesh()
TOKEN = MESH.book.create(Role.MEMBER, DAY_S, 2, ADDRESSES, NOW, MESH.dice)
INVITE = parse_token(TOKEN)

EDITS: dict[str, Any] = {
    "version": 1,
    "mesh_id": b"m" * 16,
    "root_fingerprint": b"f" * 16,
    "token_id": b"t" * 8,
    "secret": b"s" * 16,
    "role": Role.CLIENT,
    "uses": 1000,
    "expires": int(NOW) + 300 * DAY_S,
    "issuer_public": NodeKey(b"x" * 32).public,
    "address_texts": ("203.0.113.66:7842",),
}


def text_of(payload: bytes, signature: bytes) -> str:
    return "meshd1:" + base64.urlsafe_b64encode(payload + signature).decode().rstrip("=")


def signature_of(token: str) -> bytes:
    body = token.removeprefix("meshd1:")
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))[-64:]


def test_token_says_all_that_a_joiner_needs() -> None:
    assert INVITE.mesh_id == MESH.membership.mesh_id
    assert INVITE.root_fingerprint == root_fingerprint(MESH.root.public)
    assert (INVITE.role, INVITE.uses, INVITE.expires) == (Role.MEMBER, 2, int(NOW) + DAY_S)
    assert (INVITE.issuer, INVITE.addresses) == (MESH.owner.node, ADDRESSES)


def test_token_is_one_word_that_fits_a_terminal() -> None:
    assert len(TOKEN) < 400
    assert TOKEN.split() == [TOKEN]


def test_line_breaks_from_pasting_are_forgiven() -> None:
    assert parse_token(f"  {TOKEN[:80]}\n  {TOKEN[80:]}\r\n") == INVITE


def test_repr_hides_the_secret() -> None:
    assert INVITE.secret.hex() not in repr(INVITE)
    assert repr(INVITE.secret) not in repr(INVITE)


@pytest.mark.parametrize("field", [field for field in Invite.__struct_fields__ if field != "version"])
def test_an_edited_field_is_detected(field: str) -> None:
    edited = msgspec.structs.replace(INVITE, **{field: EDITS[field]})
    assert edited != INVITE
    with pytest.raises(BadToken, match="changed after it was made"):
        parse_token(text_of(wire.encode(edited), signature_of(TOKEN)))


def test_a_token_signed_by_another_than_its_issuer_is_detected() -> None:
    with pytest.raises(BadToken, match="changed after it was made"):
        parse_token(format_token(INVITE, MESH.key()))


def test_a_change_of_any_character_is_detected() -> None:
    for place in range(len("meshd1:"), len(TOKEN)):
        other = "A" if TOKEN[place] != "A" else "B"
        with pytest.raises(BadToken):
            parse_token(TOKEN[:place] + other + TOKEN[place + 1 :])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a meshd token"),
        ("https://example.org", "not a meshd token"),
        (TOKEN.removeprefix("meshd1:"), "not a meshd token"),
        ("meshd1:", "damaged or cut off"),
        ("meshd1:AAAAA", "damaged or cut off"),
        (TOKEN[:-1], "damaged or cut off|changed"),
        (TOKEN[:60], "damaged or cut off|cannot be read"),
        (TOKEN[:-3] + "!!!", "characters that no token has"),
        ("meshd1:" + "A" * 9000, "too long"),
        ("meshd2:" + TOKEN[7:], "version 2, this meshd reads version 1: upgrade"),
        (format_token(msgspec.structs.replace(INVITE, version=2), MESH.owner), "version 2"),
        (format_token(msgspec.structs.replace(INVITE, address_texts=("no port",)), MESH.owner), "cannot be read"),
        (format_token(msgspec.structs.replace(INVITE, address_texts=("a:1",) * 7), MESH.owner), "cannot be read"),
        (format_token(msgspec.structs.replace(INVITE, uses=0), MESH.owner), "cannot be read"),
    ],
)
def test_bad_tokens_are_told_apart_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(BadToken, match=reason) as caught:
        parse_token(text)
    assert str(caught.value).isprintable()


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_ends_in_a_bad_token(text: str) -> None:
    for candidate in (text, "meshd1:" + text):
        with pytest.raises(BadToken):
            parse_token(candidate)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_payload_ends_in_a_bad_token_though_its_issuer_signed_it(payload: bytes) -> None:
    with pytest.raises(BadToken):
        parse_token(text_of(payload, MESH.owner.sign(b"meshd-token-v1" + payload)))
