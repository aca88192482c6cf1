"""BLAKE3 on a device: every chunk of every input a thread, then the trees above them, a level at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy

from forms.cuda.device import Buffer, Device
from forms.live.device_rows import U64_BYTES, DeviceRows, rows_bytes, upload_rows
from forms.live.digests import Digests, HashCall

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 1024
"""Bytes that make one leaf of the tree (BLAKE3 §2.4)."""
CHAINING_BYTES = 32


@dataclass(frozen=True, slots=True)
class Trees:
    """The inputs of more than one chunk. inputs: their numbers.  starts: the first chunk of each.  chunks: of each."""

    inputs: NDArray[numpy.uint64]
    starts: NDArray[numpy.uint64]
    chunks: NDArray[numpy.uint64]


class Blake3Kernel:
    """The kernel of `cuda-blake3-tree`."""

    source = Path(__file__).with_name("blake3_tree.cu")

    def device_bytes(self, call: HashCall) -> int:
        count = len(call.inputs)
        held = rows_bytes(call.inputs) + count * call.out_bytes
        chunks = call.inputs.total(lambda length: max(1, -(-length // CHUNK)))
        if chunks == count:
            return held
        # Where chunks, trees and pairs start, and the nodes themselves.
        return held + chunks * CHAINING_BYTES + (5 * count + 3) * U64_BYTES

    def run(self, device: Device, call: HashCall) -> Digests:
        rows = upload_rows(device, call.inputs)
        digests = device.empty(len(call.inputs) * call.out_bytes)
        chunk_starts = _starts(_chunks_of(call))
        chaining = self._hash_chunks(device, rows, chunk_starts, digests, call.out_bytes)
        if chaining is not None:
            self._join(device, chunk_starts, chaining, digests, call.out_bytes)
        return Digests(device.download(digests).tobytes(), call.out_bytes)

    def _hash_chunks(
        self, device: Device, rows: DeviceRows, chunk_starts: NDArray[numpy.uint64], digests: Buffer, width: int
    ) -> Buffer | None:
        """The nodes that the chunks of longer inputs leave; none when no input has more than one."""
        count, chunks = len(chunk_starts) - 1, int(chunk_starts[-1])
        has_trees = chunks > count
        chaining = device.empty(chunks * CHAINING_BYTES if has_trees else 0)
        starts = device.upload(chunk_starts if has_trees else chunk_starts[:0])
        inputs = (rows.data, rows.places, rows.is_even, numpy.uint64(count), starts)
        results = (chaining, digests, numpy.uint64(width), numpy.uint64(chunks))
        device.launch(self.source, "blake3_chunks", chunks, [*inputs, *results])
        return chaining if has_trees else None

    def _join(
        self, device: Device, chunk_starts: NDArray[numpy.uint64], chaining: Buffer, digests: Buffer, width: int
    ) -> None:
        """From the nodes up to the digests of inputs of more than one chunk."""
        trees = _trees(chunk_starts)
        starts, count = device.upload(trees.starts), numpy.uint64(len(trees.inputs))
        for apart, pairs in _levels(trees):
            nodes = (chaining, starts, device.upload(pairs), count)
            device.launch(self.source, "blake3_parents", int(pairs[-1]), [*nodes, numpy.uint64(apart), pairs[-1]])
        roots = (device.upload(_greatest_power_below(trees.chunks)), device.upload(trees.inputs))
        results = (digests, numpy.uint64(width), count)
        device.launch(self.source, "blake3_roots", int(count), [chaining, starts, *roots, *results])


def _trees(chunk_starts: NDArray[numpy.uint64]) -> Trees:
    chunks = numpy.diff(chunk_starts)
    inputs = numpy.flatnonzero(chunks > 1)
    return Trees(inputs.astype(numpy.uint64), chunk_starts[inputs], chunks[inputs])


def _chunks_of(call: HashCall) -> NDArray[numpy.uint64]:
    """How many chunks each input has; an empty one has one."""
    lengths = numpy.empty(len(call.inputs), numpy.int64)
    lengths[:] = call.inputs.lengths
    return numpy.maximum(1, -(-lengths // CHUNK)).astype(numpy.uint64)


def _levels(trees: Trees) -> Iterator[tuple[int, NDArray[numpy.uint64]]]:
    """Of each level below the roots: how far apart its neighbours lie, and where each tree's pairs start.

    An odd node goes up as it is, which here takes no more than leaving it where it lies.
    """
    apart = 1
    while True:
        nodes = -(-trees.chunks.astype(numpy.int64) // apart)
        if (nodes <= 2).all():
            return
        yield apart, _starts(numpy.where(nodes > 2, nodes // 2, 0).astype(numpy.uint64))
        apart *= 2


def _greatest_power_below(chunks: NDArray[numpy.uint64]) -> NDArray[numpy.uint64]:
    """Of each count of two or more: how many chunks its root's left half has."""
    exponents = numpy.frexp((chunks - numpy.uint64(1)).astype(numpy.float64))[1] - 1
    return numpy.left_shift(numpy.uint64(1), exponents.astype(numpy.uint64))


def _starts(counts: NDArray[numpy.uint64]) -> NDArray[numpy.uint64]:
    """Where each begins when they lie one after the other, and the end of all."""
    starts = numpy.zeros(len(counts) + 1, numpy.uint64)
    numpy.cumsum(counts, out=starts[1:])
    return starts
