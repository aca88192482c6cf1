"""A commitment to a list, of which single entries are shown later. Pure.

Leaves, inner nodes and the root are hashed under different first bytes, and the root with the length, so that none can
pass for another (RFC 6962 §2.1 does the first two). The last of an odd row moves up as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

HASH_BYTES = 32


def commit(leaves: Sequence[bytes]) -> bytes:
    """The root of `leaves`."""
    return _root(len(leaves), _rows(leaves)[-1][0])


def open_leaf(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The path that shows leaf `index` under the root."""
    return open_leaves(leaves, (index,))[0]


def open_leaves(leaves: Sequence[bytes], indices: Sequence[int]) -> list[tuple[bytes, ...]]:
    """The paths of several leaves, for the price of one tree."""
    rows = _rows(leaves)
    return [
        tuple(row[place ^ 1] for height, row in enumerate(rows) if (place := index >> height) ^ 1 < len(row))
        for index in indices
    ]


def shows(root: bytes, count: int, index: int, leaf: bytes, path: Sequence[bytes]) -> bool:
    """Whether `leaf` is number `index` of the `count` under `root`."""
    if not 0 <= index < count:
        return False
    value, width, rest = _leaf(leaf), count, list(path)
    while width > 1:
        if index ^ 1 < width:
            if not rest:
                return False
            other = rest.pop(0)
            value = _node(other, value) if index & 1 else _node(value, other)
        index, width = index >> 1, (width + 1) >> 1
    return not rest and _root(count, value) == root


def _rows(leaves: Sequence[bytes]) -> list[list[bytes]]:
    rows = [[_leaf(leaf) for leaf in leaves] or [bytes(HASH_BYTES)]]
    while len(row := rows[-1]) > 1:
        pairs = [_node(*row[place : place + 2]) for place in range(0, len(row) - 1, 2)]
        rows.append(pairs + row[len(pairs) * 2 :])
    return rows


def _leaf(leaf: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + leaf).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _root(count: int, top: bytes) -> bytes:
    return hashlib.sha256(b"\x02" + count.to_bytes(8, "little") + top).digest()
