"""Cuts many threads into launches that a device takes. Pure."""

from __future__ import annotations

from collections.abc import Iterator


def split(threads: int, block: int, most_threads: int) -> Iterator[tuple[int, int]]:
    """(number of the first thread, blocks) of each launch; whole blocks, at least one a launch."""
    blocks = -(-threads // block)
    at_once = max(1, most_threads // block)
    for done in range(0, blocks, at_once):
        yield done * block, min(at_once, blocks - done)
