from __future__ import annotations

import os
import random
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from transport.identity import (
    NodeKey,
    node_id,
    node_text,
    parse_node_text,
    self_signed_certificate,
    short,
    verify,
)
from transport.interface import NodeId

KEY = NodeKey(bytes(range(32)))


def test_public_key_is_the_one_of_the_ed25519_standard() -> None:
    """RFC 8032 §7.1, test 1."""
    key = NodeKey(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a")


def test_seed_is_all_that_need_be_kept() -> None:
    key = NodeKey.generate(random.Random(5).randbytes)
    again = NodeKey(key.seed)
    assert (again.public, again.node) == (key.public, key.node)
    assert key.node == node_id(key.public) != KEY.node


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"32 bytes, got {length}"):
        NodeKey(bytes(length))


def test_signature_holds_for_its_message_and_key_only() -> None:
    signature = KEY.sign(b"hello")
    assert len(signature) == 64
    assert verify(KEY.public, signature, b"hello")
    assert not verify(KEY.public, signature, b"hellO")
    assert not verify(NodeKey(bytes(32)).public, signature, b"hello")


@given(st.binary(max_size=70), st.binary(max_size=70), st.binary(max_size=10))
def test_verify_answers_no_for_any_bytes(public: bytes, signature: bytes, message: bytes) -> None:
    assert verify(public, signature, message) is False


def test_neither_repr_nor_str_shows_the_seed() -> None:
    assert KEY.seed.hex() not in repr(KEY)
    assert short(KEY.node) in str(KEY)


@given(st.binary(min_size=32, max_size=32))
def test_node_text_survives_the_round_trip(raw: bytes) -> None:
    node = NodeId(raw)
    text = node_text(node)
    assert len(text) == 52
    assert text == text.lower()
    assert parse_node_text(text.upper() + "\n") == node
    assert short(node) == text[:8]


@pytest.mark.parametrize("text", ["", "a" * 51, "a" * 53, "a" * 51 + "1", "a" * 51 + "b", "ä" * 52, "=" * 52])
def test_damaged_node_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="node id"):
        parse_node_text(text)


def test_tls_certificate_reuses_the_key_and_names_no_node() -> None:
    now = 1_800_000_000.0
    certificate, private = self_signed_certificate(KEY, now)
    certificate.verify_directly_issued_by(certificate)
    assert private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) == KEY.public
    assert certificate.subject.rfc4514_string() == "CN=meshd"
    assert certificate.not_valid_before_utc < datetime.fromtimestamp(now, UTC) < certificate.not_valid_after_utc


def test_generate_takes_the_systems_dice() -> None:
    assert NodeKey.generate(os.urandom).seed != NodeKey.generate(os.urandom).seed
