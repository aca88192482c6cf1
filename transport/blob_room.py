"""What a store of blobs drops when a new one needs room. Pure.

Blobs that were put here stay until somebody removes them: whoever put one may have it nowhere else. What was begun and
left alone gives way first, then copies of what other nodes have, which can be pulled again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from transport.blob_message import BlobDigest


@dataclass(frozen=True, slots=True)
class Droppable:
    """One that may go. is_begun: it never came whole.  used_at: when it was written or asked for last."""

    digest: BlobDigest
    size_bytes: int
    is_begun: bool
    used_at: float


def choose_dropped(droppable: Iterable[Droppable], missing_bytes: int) -> tuple[BlobDigest, ...] | None:
    """Those that go so that `missing_bytes` become free, longest unused first; None when all together would not do."""
    dropped: list[BlobDigest] = []
    for one in sorted(droppable, key=lambda one: (not one.is_begun, one.used_at, one.digest)):
        if missing_bytes <= 0:
            break
        dropped.append(one.digest)
        missing_bytes -= one.size_bytes
    return tuple(dropped) if missing_bytes <= 0 else None
