from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transport.address import format_address, parse_address
from transport.interface import Address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1:7842", Address("192.0.2.1", 7842)),
        ("[::1]:1", Address("::1", 1)),
        ("[2001:DB8:0::1]:65535", Address("2001:db8::1", 65535)),
        ("[fe80::1%eth0]:7842", Address("fe80::1%eth0", 7842)),
        (":7842", Address("::", 7842)),
        (" gpu-box.lan:0 ", Address("gpu-box.lan", 0)),
    ],
)
def test_what_people_type_is_read(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["host", "::1", "[::1]", "192.0.2.1"])
def test_a_bare_host_needs_a_default_port(text: str) -> None:
    assert parse_address(text, default_port=7842).port == 7842
    with pytest.raises(ValueError, match="no port"):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    ["", "host:", "host:x", "host:65536", "host:-1", "host:٣", "[::1", "[::1]x:1", "[]:1", "a b:1", "-a:1", "a/b:1"],
)
def test_anything_else_is_quoted_in_the_error(text: str) -> None:
    with pytest.raises(ValueError, match="expected ") as caught:
        parse_address(text, default_port=None)
    assert repr(text) in str(caught.value)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_literal_survives_the_round_trip(host: object, port: int) -> None:
    address = Address(str(host), port)
    assert parse_address(format_address(address)) == address


@given(st.text(max_size=40))
@settings(max_examples=300)
def test_any_text_ends_in_an_address_or_a_value_error(text: str) -> None:
    try:
        address = parse_address(text, default_port=1)
    except ValueError:
        return
    assert parse_address(format_address(address)) == address
