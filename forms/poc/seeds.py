"""Keys and seeds out of named fields, so that none says two things. Pure."""

from __future__ import annotations

import hashlib

SEED_BYTES = 32


def derive(purpose: str, *parts: bytes | str | int, size: int = SEED_BYTES) -> bytes:
    """`size` bytes of SHAKE-256 over the purpose and the parts, each after its length; integers as their digits."""
    state = hashlib.shake_256()
    for part in (purpose, *parts):
        encoded = part if isinstance(part, bytes) else str(part).encode()
        state.update(len(encoded).to_bytes(8, "little") + encoded)
    return state.digest(size)


def derive_key(purpose: str, *parts: bytes | str | int) -> int:
    """A key of Philox, below 2**64."""
    return int.from_bytes(derive(purpose, *parts, size=8), "little")
