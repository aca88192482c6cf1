"""API keys as values: made, found, revoked, written down."""

from __future__ import annotations

import pytest

from meshd.keys import (
    BadKeys,
    KeyRing,
    KeyState,
    Limits,
    decode_ring,
    digest_of,
    encode_ring,
    plain_keys,
    read_key_file,
)

ENTROPY = bytes(range(32))


def ring_with(name: str = "laptop", limits: Limits | None = None, now_s: float = 100.0) -> tuple[KeyRing, str]:
    return KeyRing().create(name, limits or Limits(), ENTROPY, now_s)


def test_a_key_is_found_by_itself_and_by_nothing_else() -> None:
    ring, secret = ring_with()
    assert secret.startswith("sk-meshd-")
    found = ring.find(secret)
    assert found is not None
    assert found.name == "laptop"
    assert ring.find(secret[:-1]) is None
    assert ring.find("") is None
    assert ring.find("\ud800") is None


def test_what_is_kept_does_not_hold_the_key() -> None:
    ring, secret = ring_with()
    kept = encode_ring(ring)
    assert secret.encode() not in kept
    assert digest_of(secret).encode() in kept
    assert decode_ring(kept) == ring


def test_a_key_is_known_by_its_beginning() -> None:
    ring, secret = ring_with()
    (key,) = ring.keys
    assert secret.startswith(key.beginning)
    assert len(key.beginning) < len(secret) / 2
    assert ring.revoke(key.beginning, 200.0)[1].state(200.0) is KeyState.REVOKED


def test_a_revoked_key_stays_in_the_ring_and_a_removed_one_does_not() -> None:
    ring, secret = ring_with()
    revoked, _ = ring.revoke("laptop", 200.0)
    found = revoked.find(secret)
    assert found is not None
    assert found.state(200.0) is KeyState.REVOKED
    again, key = revoked.revoke("laptop", 300.0)
    assert key.revoked_s == 200.0, "the first time counts"
    assert again.remove("laptop")[0].keys == ()


def test_a_key_expires_when_it_was_said_to() -> None:
    ring, _ = ring_with(limits=Limits(lasts_s=60), now_s=100.0)
    assert [ring.keys[0].state(now_s) for now_s in (159.9, 160.0)] == [KeyState.VALID, KeyState.EXPIRED]


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 65, "ü\n"])
def test_names_that_no_shell_likes_are_refused(name: str) -> None:
    with pytest.raises(BadKeys, match="no name for a key"):
        ring_with(name)


def test_two_keys_of_one_name_are_refused_and_a_name_that_is_not_there_is_said() -> None:
    ring, _ = ring_with()
    with pytest.raises(BadKeys, match="already"):
        ring.create("laptop", Limits(), bytes(32), 0.0)
    with pytest.raises(BadKeys, match="there are: laptop"):
        ring.revoke("desktop", 0.0)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"keys": [{}]}', b'{"keys": [], "more": 1}', b"\xff"])
def test_a_damaged_file_is_refused(content: bytes) -> None:
    with pytest.raises(BadKeys, match="damaged"):
        decode_ring(content)


def test_keys_of_a_file_have_neither_limits_nor_an_end() -> None:
    keys = plain_keys(read_key_file("# ours\nabc\n\n  def \n"))
    assert [key.name for key in keys.keys] == ["file-1", "file-2"]
    assert keys.find("def") is not None
    with pytest.raises(ValueError, match="found none"):
        read_key_file("# nothing\n")
