"""The API keys of this node: named, shown by their beginning, kept as hashes, limited and revoked one by one. Pure.

A key is 32 random bytes, so one SHA-256 is all the stretching its hash needs: there is nothing to guess.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

import msgspec

KEY_BYTES = 32
BEGINNING = "sk-meshd-"
SHOWN_CHARACTERS = len(BEGINNING) + 6
MAX_KEYS = 1000
NAME = re.compile(r"[A-Za-z0-9][\w.@-]{0,63}")


class BadKeys(Exception):
    """Keys that cannot be made, found or read; the message says which and what to do."""


class KeyState(StrEnum):
    """Whether a key opens anything."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of a key. beginning: its first characters, to know it by.  digest: SHA-256 of the whole, hex.

    requests_per_min, concurrency: 0 for no limit.  is_admin: it may also act on the node.  Times are Unix seconds.
    """

    name: str
    beginning: str
    digest: str
    created_s: float
    requests_per_min: int = 0
    concurrency: int = 0
    is_admin: bool = False
    expires_s: float | None = None
    revoked_s: float | None = None

    def state(self, now_s: float) -> KeyState:
        """What the key is at that Unix time."""
        if self.revoked_s is not None:
            return KeyState.REVOKED
        return KeyState.EXPIRED if self.expires_s is not None and now_s >= self.expires_s else KeyState.VALID


@dataclass(frozen=True, slots=True)
class Limits:
    """requests_per_min, concurrency: 0 for no limit.  lasts_s: None for ever.  is_admin: not limited to using."""

    requests_per_min: int = 0
    concurrency: int = 0
    lasts_s: float | None = None
    is_admin: bool = False


@dataclass(frozen=True, slots=True)
class KeyRing:
    """All keys that were made here, the revoked too: a ring that once held a key never opens by losing it."""

    keys: tuple[ApiKey, ...] = ()

    def find(self, given: str) -> ApiKey | None:
        """The record of the key `given`, whatever its state. Compares all, in constant time each."""
        digest = digest_of(given)
        found = [key for key in self.keys if hmac.compare_digest(key.digest, digest)]
        return found[0] if found else None

    def create(self, name: str, limits: Limits, entropy: bytes, now_s: float) -> tuple[KeyRing, str]:
        """A ring with one more key, and the key itself, which nothing remembers. Raises BadKeys."""
        if NAME.fullmatch(name) is None:
            raise BadKeys(f"{name[:80]!r} is no name for a key: letters, digits, . _ @ -, at most 64")
        if any(key.name == name for key in self.keys):
            raise BadKeys(f"there is a key called {name!r} already; `meshd key rm {name}` forgets it")
        if len(self.keys) >= MAX_KEYS:
            raise BadKeys(f"there are {MAX_KEYS} keys already; `meshd key rm NAME` forgets one")
        if len(entropy) != KEY_BYTES:
            raise ValueError(f"expected {KEY_BYTES} random bytes, got {len(entropy)}")
        secret = BEGINNING + base64.urlsafe_b64encode(entropy).decode().rstrip("=")
        key = ApiKey(
            name=name,
            beginning=secret[:SHOWN_CHARACTERS],
            digest=digest_of(secret),
            created_s=now_s,
            requests_per_min=limits.requests_per_min,
            concurrency=limits.concurrency,
            is_admin=limits.is_admin,
            expires_s=None if limits.lasts_s is None else now_s + limits.lasts_s,
        )
        return KeyRing((*self.keys, key)), secret

    def revoke(self, named: str, now_s: float) -> tuple[KeyRing, ApiKey]:
        """Make a key useless for good; `named` by its name or its beginning. Raises BadKeys."""
        key = self._one(named)
        revoked = key if key.revoked_s is not None else msgspec.structs.replace(key, revoked_s=now_s)
        return KeyRing(tuple(revoked if one is key else one for one in self.keys)), revoked

    def remove(self, named: str) -> tuple[KeyRing, ApiKey]:
        """Forget a key. Raises BadKeys."""
        key = self._one(named)
        return replace(self, keys=tuple(one for one in self.keys if one is not key)), key

    def _one(self, named: str) -> ApiKey:
        found = [key for key in self.keys if named in (key.name, key.beginning)]
        if not found:
            names = ", ".join(key.name for key in self.keys) or "none"
            raise BadKeys(f"there is no key {named[:80]!r}; there are: {names}")
        return found[0]


def digest_of(key: str) -> str:
    """What is kept of a key in place of it: SHA-256, hex."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def plain_keys(keys: Iterable[str]) -> KeyRing:
    """The keys of a file, one a line: the owner's, without names or limits of their own."""
    return KeyRing(
        tuple(
            ApiKey(name=f"file-{number}", beginning="", digest=digest_of(key), created_s=0.0, is_admin=True)
            for number, key in enumerate(keys, 1)
        )
    )


def read_key_file(text: str) -> tuple[str, ...]:
    """One key a line; blank lines and `#` comments are skipped. ValueError when none is left."""
    keys = tuple(line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    if not keys:
        raise ValueError("expected one API key a line, found none")
    return keys


def encode_ring(ring: KeyRing) -> bytes:
    """The ring as JSON, for its file."""
    return msgspec.json.format(msgspec.json.encode({"keys": ring.keys}), indent=1)


def decode_ring(content: bytes) -> KeyRing:
    """Raises BadKeys for anything that `encode_ring` does not write."""
    try:
        return KeyRing(msgspec.json.decode(content, type=_File).keys)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BadKeys(f"the file of API keys is damaged: {error}") from error


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: tuple[ApiKey, ...]
