"""Multiples of a point of secp256k1 on a device: one scalar a thread, one inversion for a run of them.

The generator has a table of its own, made on the device when it is first asked for and kept there. Another base gets
one when there are scalars enough to pay for it; few scalars are multiplied by doubling and adding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy

from forms.cuda.device import Buffer, Device
from forms.live.numbers import Numbers
from forms.live.points import GENERATOR, POINT_BYTES, SCALAR_BYTES, PointCall, Points

SOURCE = Path(__file__).with_name("secp256k1.cu")
SCALAR_BITS = 256
JACOBIAN_BYTES = 96
ITEM_BYTES = SCALAR_BYTES + JACOBIAN_BYTES + POINT_BYTES
WINDOW_BITS = 8
"""Of the table of a base: 32 additions a scalar, and half a MiB, which the second-level cache of any GPU holds."""
FEW_BITS = 4
"""Of the windows where there is no such table."""
SMALL_TABLES_BYTES = 64 << 10
"""More than a large table is made from."""
MOST_ITEMS = 1 << 20
"""Scalars on the device at a time: 192 MiB."""
ALL = 1 << 31
"""More items than there are."""
LEAST_FOR_TABLE = 1 << 14
"""Scalars that pay for a table. It saves six of seven multiplications, but takes as long as one scalar without it does,
and so do all scalars that a GPU has room for at a time."""
INVERTING_THREADS = 1 << 16
"""About what fills a large GPU; where there are more items than this, a thread inverts for several."""
MOST_PER_INVERSION = 32


@dataclass(frozen=True, slots=True)
class Table:
    """Affine points in blocks of 2^width, as `multiply_point` in secp256k1.cu has them.

    items: scalars in a row that share a block; 0 where there is one for each window.
    """

    rows: Buffer
    width: int
    items: int


@dataclass(slots=True)
class Secp256k1Kernel:
    """The kernel of `cuda-secp256k1-batched-mul`. width: bits of a window, 4 to 16, where the base has a table."""

    width: int = WINDOW_BITS
    source: Path = SOURCE
    _kept: tuple[Device, Table] | None = field(default=None, init=False)
    """The generator's table, and the device that it lies on."""

    def device_bytes(self, call: PointCall) -> int:
        table = _rows(self.width) * (ITEM_BYTES + POINT_BYTES) + SMALL_TABLES_BYTES
        return table + min(len(call.scalars), MOST_ITEMS) * ITEM_BYTES

    def run(self, device: Device, call: PointCall) -> Points:
        if call.base is None or not call.scalars:
            return Points(bytes(len(call.scalars) * POINT_BYTES))
        table = self._table(device, call.base, len(call.scalars))
        parts = [device.download(_multiplied(device, table, piece)) for piece in _pieces(call.scalars)]
        return Points(parts[0].data if len(parts) == 1 else numpy.concatenate(parts).data)

    def _table(self, device: Device, base: tuple[int, int], scalars: int) -> Table:
        if base != GENERATOR:
            return _made(device, base, self.width) if scalars >= LEAST_FOR_TABLE else _few(device, base)
        if self._kept is None or self._kept[0] is not device:
            self._kept = device, _made(device, base, self.width)
        return self._kept[1]


def _rows(width: int) -> int:
    return -(-SCALAR_BITS // width) << width


def _pieces(scalars: Numbers) -> Iterator[Numbers]:
    for start in range(0, len(scalars), MOST_ITEMS):
        yield scalars[start : start + MOST_ITEMS]


def _few(device: Device, base: tuple[int, int]) -> Table:
    """The multiples of a base that one window can ask for."""
    pair = Table(device.upload(Points.of([None, base]).data), 1, ALL)
    multiples = Numbers.of(range(1 << FEW_BITS), SCALAR_BYTES)
    return Table(_multiplied(device, pair, multiples, FEW_BITS), FEW_BITS, ALL)


def _made(device: Device, base: tuple[int, int], width: int) -> Table:
    """The table of a base: first the base times each window's place, then the multiples of those."""
    places = [scalar for bit in range(0, SCALAR_BITS, width) for scalar in (0, 1 << bit)]
    pairs = _multiplied(device, _few(device, base), Numbers.of(places, SCALAR_BYTES))
    multiples = Numbers.of(range(1 << width), SCALAR_BYTES)
    all_multiples = Numbers(bytes(multiples.data) * (len(places) // 2), SCALAR_BYTES)
    return Table(_multiplied(device, Table(pairs, 1, 1 << width), all_multiples, width), width, 0)


def _multiplied(device: Device, table: Table, scalars: Numbers, bits: int = SCALAR_BITS) -> Buffer:
    """The affine products. bits: of the scalars, those above are 0."""
    count = len(scalars)
    given, products = device.upload(scalars.data), device.empty(count * JACOBIAN_BYTES)
    sizes = (table.width, -(-bits // table.width), not table.items, table.items)
    arguments = [table.rows, *map(numpy.uint32, sizes), given, products, numpy.uint32(count)]
    device.launch(SOURCE, "multiply_point", count, arguments)
    return _affine(device, products, count)


def _affine(device: Device, products: Buffer, count: int) -> Buffer:
    each = min(MOST_PER_INVERSION, max(1, count // INVERTING_THREADS))
    threads = -(-count // each)
    points = device.empty(count * POINT_BYTES)
    device.launch(SOURCE, "affine", threads, [products, points, numpy.uint32(threads), numpy.uint32(count)])
    return points
