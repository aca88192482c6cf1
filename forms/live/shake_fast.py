"""SHAKE-256 of many inputs on all cores of a CPU, by compiled code that hashes eight side by side."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from forms.keccak import RATE
from forms.live.digests import Digests, HashCall
from forms.live.keccak_lanes import Bytes, shake256
from forms.rows import Rows

CHUNK_ROWS = 1 << 14
"""Rows that one thread takes at a time: their places fit its cache."""


def shake_rows(call: HashCall) -> Digests:
    """The digests of all rows; what a chunk costs is the same wherever its rows lie."""
    count, width = len(call.inputs), call.out_bytes
    digests = np.empty(count * width, np.uint8)

    def hash_from(start: int) -> None:
        end = start + CHUNK_ROWS
        _hash(call.inputs[start:end], digests[start * width : end * width], width)

    # One chunk stays on this thread; `list` waits for all, and raises what one of them raised.
    list((_threads().map if count > CHUNK_ROWS else map)(hash_from, range(0, count, CHUNK_ROWS)))
    return Digests(digests.data, width)


def _hash(rows: Rows, digests: Bytes, width: int) -> None:
    data, starts, lengths = rows.arrays()
    order = np.arange(len(rows)) if isinstance(rows.lengths, int) else np.argsort(lengths // RATE, kind="stable")
    shake256(data, starts, lengths, order, digests, width)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)), "shake")
