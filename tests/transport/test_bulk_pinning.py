"""Whose key a certificate shows."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from transport.bulk.pinning import LaneIdentity, certificate_node
from transport.errors import ProtocolError
from transport.identity import NodeKey

KEY = NodeKey.generate(random.Random(1).randbytes)
CERTIFICATE = LaneIdentity(KEY, 1.8e9).certificate


def test_certificate_names_the_node_of_its_key() -> None:
    assert certificate_node(CERTIFICATE) == KEY.node
    assert len(CERTIFICATE) < 1024


def test_key_of_another_kind_is_no_node() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "meshd")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=1))
    with pytest.raises(ProtocolError, match="Ed25519"):
        certificate_node(builder.sign(key, SHA256()).public_bytes(Encoding.DER))


@given(st.binary(max_size=1024))
def test_bytes_that_are_no_certificate_are_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        certificate_node(data)


@given(st.integers(0, len(CERTIFICATE) - 1), st.integers(1, 255))
def test_damaged_certificate_is_read_or_refused(place: int, change: int) -> None:
    damaged = bytearray(CERTIFICATE)
    damaged[place] ^= change
    try:
        assert len(certificate_node(bytes(damaged))) == 32
    except ProtocolError:
        return
