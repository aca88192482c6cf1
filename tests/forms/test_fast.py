"""The compiled ways of a CPU give the truth wherever rows end, whoever is beside them, on one thread as on many."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

import numpy as np
import pytest

from forms.live import chunked
from forms.live.blake3_tree import Blake3Tree
from forms.live.digests import HashCall
from forms.live.radix_sort import RadixSort
from forms.live.shake import ShakeFanout
from forms.live.sort_call import Order, SortCall
from forms.rows import Rows

DICE = random.Random(11)
FORMS = (ShakeFanout(), Blake3Tree())
BOUNDARIES = [length + more for length in (0, 64, 128, 136, 272, 1024, 1088) for more in (-1, 0, 1)][1:]

ROWS = {
    "at every boundary": [DICE.randbytes(length) for length in BOUNDARIES for _ in range(5)],
    "of any length": [DICE.randbytes(DICE.randrange(1200)) for _ in range(300)],
    "of one length": [DICE.randbytes(16) for _ in range(1001)],
    "long and short": [DICE.randbytes(length) for length in (20_000, 0, 3, 9000, 1)],
    "empty": [b""] * 20,
    "one": [b"x"],
    "none": [],
}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_hashes(form: ShakeFanout | Blake3Tree, rows: Sequence[bytes]) -> None:
    for out_bytes in (1, 32, 137, 300):
        call = HashCall(Rows.of(rows), out_bytes)
        assert form.fast(call) == form.reference(call)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_hashes_on_several_threads_are_in_order(
    form: ShakeFanout | Blake3Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked, "SHORT_BYTES", 0)
    monkeypatch.setattr(chunked, "CHUNK_ROWS", 37)
    for rows in (ROWS["of any length"], ROWS["of one length"], ROWS["none"]):
        call = HashCall(Rows.of(rows), 32)
        assert form.fast(call) == form.reference(call)


def test_rows_with_other_bytes_between_them() -> None:
    frame = b"ab" + b"".join(bytes([row]) * 5 + b"---" for row in range(40))
    call = HashCall(Rows.even(frame, 5, 40, 2, 3), 8)
    expected = b"".join(hashlib.shake_256(bytes([row]) * 5).digest(8) for row in range(40))
    assert FORMS[0].fast(call).rows == expected


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("count", [0, 1, 2, 255, 5000])
def test_sorts(order: Order, count: int) -> None:
    for below in (1, 3, 1 << 20, 1 << 64):
        numbers = np.array([DICE.randrange(below) for _ in range(count)], "<u8").tobytes()
        call = SortCall(order, numbers)
        assert RadixSort().fast(call) == RadixSort().reference(call)
