"""Hashes the rows of one call on all cores, a chunk of them at a time, each cut into blocks for code that takes many.

Rows with as many blocks go side by side. Where too few are alike, or they are long, the library takes them one by one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from forms.live.digests import Digests, HashCall
from forms.machine_code import compiled
from forms.rows import Rows

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]

CORES = len(os.sched_getaffinity(0))
CHUNK_ROWS = 1 << 13
"""Rows that one thread takes at a time, at most: a block of each, and its digest, fit its cache."""
CHUNKS_A_CORE = 4
SHORT_BYTES = 1 << 19
"""In and out of a call that one thread does as soon as several: about a quarter of a millisecond."""


@dataclass(frozen=True, slots=True)
class Way:
    """How one hash is computed. many: digests of rows of so many blocks each, from their blocks and their lengths.

    one: of one row.  blocks_of: how many blocks rows of such lengths have.  most_blocks: of a row for `many`.  fewest:
    rows that are worth going side by side.
    """

    many: Callable[[Bytes, Places, int], Bytes]
    one: Callable[[memoryview, int], bytes]
    blocks_of: Callable[[Places], Places]
    block_bytes: int
    most_blocks: int
    fewest: int


def over_chunks(call: HashCall, way: Way) -> Digests:
    """The digests of all rows."""
    count, width = len(call.inputs), call.out_bytes
    digests = np.empty((count, width), np.uint8)
    is_short = call.inputs.total(lambda length: length + width) <= SHORT_BYTES
    step = max(1, count if is_short else min(CHUNK_ROWS, -(-count // (CHUNKS_A_CORE * CORES))))

    def hash_from(start: int) -> None:
        _hash(call.inputs[start : start + step], digests[start : start + step], way)

    # `list` waits for all, and raises what one of them raised.
    list((map if is_short else _threads().map)(hash_from, range(0, count, step)))
    return Digests(digests.reshape(-1).data, width)


def _hash(rows: Rows, digests: Bytes, way: Way) -> None:
    for places, blocks in _alike(rows, way):
        if blocks > way.most_blocks or len(places) < way.fewest:
            view = memoryview(rows.data)
            for place in places.tolist():
                start, length = rows.starts[place], rows.length(place)
                digests[place] = np.frombuffer(way.one(view[start : start + length], digests.shape[1]), np.uint8)
        else:
            cut, lengths = _blocks(rows, places, blocks * way.block_bytes)
            digests[places] = way.many(cut, lengths, digests.shape[1])


def _alike(rows: Rows, way: Way) -> Iterator[tuple[Places, int]]:
    """The places of rows that have as many blocks, and how many that is."""
    if isinstance(rows.lengths, int):
        yield np.arange(len(rows)), int(way.blocks_of(np.array([rows.lengths]))[0])
        return
    blocks = way.blocks_of(np.array(rows.lengths))
    order = np.argsort(blocks, kind="stable")
    counts, firsts = np.unique(blocks[order], return_index=True)
    for count, places in zip(counts.tolist(), np.split(order, firsts[1:]), strict=True):
        yield places, count


def _blocks(rows: Rows, places: Places, width: int) -> tuple[Bytes, Places]:
    """These rows, each filled up with zeros to `width`, and their lengths."""
    cut = np.zeros((len(places), width), np.uint8)
    data = np.frombuffer(rows.data, np.uint8)
    if isinstance(rows.lengths, int):
        lengths = np.full(len(places), rows.lengths)
        first, step = rows.starts[0], rows.starts[1] - rows.starts[0] if len(rows) > 1 else rows.lengths
        table = np.lib.stride_tricks.as_strided(data[first:], (len(rows), rows.lengths), (step, 1))
        cut[:, : rows.lengths] = table
        return cut, lengths
    starts, lengths = np.array(rows.starts)[places], np.array(rows.lengths)[places]
    copy_rows(data, starts, lengths, cut)
    return cut, lengths


@compiled
def copy_rows(data: Bytes, starts: Places, lengths: Places, cut: Bytes) -> None:
    """Each row to the front of its own."""
    for row in range(len(starts)):
        for place in range(lengths[row]):
            cut[row, place] = data[starts[row] + place]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(CORES, "rows")
