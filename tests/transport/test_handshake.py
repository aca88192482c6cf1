from __future__ import annotations

import hmac
from itertools import product

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.meshes import Mesh
from transport.errors import RefusalCode, Refused
from transport.handshake import (
    MAX_MESSAGE_BYTES,
    ServerFinish,
    ServerHello,
    channel_binding,
    client_transcript,
    finish_transcript,
    read_message,
    refusal_message,
    server_transcript,
)

PARTS = [bytes([value]) * 32 for value in range(5)]


def test_binding_is_the_hkdf_of_both_secrets() -> None:
    """RFC 5869 §2.2 and §2.3, salt left out, one block."""
    extracted = hmac.digest(bytes(32), b"c" * 48 + b"s" * 48, "sha256")
    expanded = hmac.digest(extracted, b"meshd channel binding v1\x01", "sha256")
    assert channel_binding(b"c" * 48, b"s" * 48) == expanded


def test_binding_differs_with_either_secret_and_their_order() -> None:
    bindings = {channel_binding(left, right) for left, right in product((b"a" * 32, b"b" * 32), repeat=2)}
    assert len(bindings) == 4


def test_transcripts_are_those_of_the_protocol() -> None:
    binding, client, server, server_nonce, client_nonce = PARTS
    mesh_id = b"m" * 16
    assert server_transcript(binding, mesh_id, server, server_nonce) == (
        b"meshd-auth-S" + binding + mesh_id + server + server_nonce
    )
    assert client_transcript(binding, mesh_id, client, server, server_nonce, client_nonce) == (
        b"meshd-auth-C" + binding + mesh_id + client + server + server_nonce + client_nonce
    )
    assert finish_transcript(binding, client, server, client_nonce) == (
        b"meshd-auth-F" + binding + client + server + client_nonce
    )


@pytest.mark.parametrize("code", list(RefusalCode))
def test_every_refusal_reaches_the_other_end(code: RefusalCode) -> None:
    message = refusal_message(Refused(code, f"because of {code}"))
    with pytest.raises(Refused, match=f"^because of {code}$") as caught:
        read_message(message, ServerFinish, None)
    assert caught.value.code is code


def test_a_refusal_cannot_paint_the_terminal_nor_be_long() -> None:
    message = refusal_message(Refused(RefusalCode.BUSY, "\x1b[2J\n" + "x" * 5000))
    assert len(message) < 500
    with pytest.raises(Refused) as caught:
        read_message(message, ServerFinish, None)
    assert str(caught.value).startswith("?[2J?xxx")
    hostile = msgpack.packb({"kind": "refusal", "code": "busy", "message": "\x1b[2J"})
    with pytest.raises(Refused, match=r"^\?\[2J$"):
        read_message(hostile, ServerFinish, None)


def test_a_later_versions_refusal_keeps_its_words() -> None:
    later = msgpack.packb({"kind": "refusal", "code": "too_early", "message": "come back at noon"})
    with pytest.raises(Refused, match="come back at noon") as caught:
        read_message(later, ServerHello, None)
    assert caught.value.code is RefusalCode.MALFORMED


@given(st.binary(max_size=500))
@settings(max_examples=200, deadline=None)
def test_any_bytes_end_in_a_refusal(data: bytes) -> None:
    with pytest.raises(Refused):
        read_message(data, ServerHello, None)


def test_a_message_of_another_step_is_malformed() -> None:
    mesh = Mesh()
    accepted, _ = mesh.shake(mesh.owner_site(), mesh.member_site())
    with pytest.raises(Refused) as caught:
        read_message(accepted.reply, ServerHello, None)
    assert caught.value.code is RefusalCode.MALFORMED


def test_a_message_over_the_limit_is_malformed() -> None:
    with pytest.raises(Refused, match="at most 4096 bytes") as caught:
        read_message(bytes(MAX_MESSAGE_BYTES + 1), ServerHello, None)
    assert caught.value.code is RefusalCode.MALFORMED
