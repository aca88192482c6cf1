"""BLAKE3's kernel: borders of words, blocks and chunks, trees of every shape, long and short together."""

from __future__ import annotations

import random
from collections.abc import Sequence

from forms.live.blake3_tree import Blake3Tree
from forms.live.digests import HashCall
from forms.rows import Rows
from tests.forms.cuda.kernel_suite import KernelCases, KernelSuite

DICE = random.Random(6)
AROUND_CHUNKS = [1024 * chunks + more for chunks in (1, 2, 3, 4, 5, 7, 8, 16, 17, 31) for more in (-1, 0, 1)]


class Blake3Cases(KernelCases):
    form = Blake3Tree()
    shapes = (
        HashCall(Rows.of([]), 32),
        HashCall(Rows.of([b""]), 1),
        HashCall(Rows.even(DICE.randbytes(12 + 68 * 300), 64, 299, first=16, gap=4), 32),
        HashCall(Rows.of([DICE.randbytes(size) for size in range(140)]), 65),
        HashCall(Rows.of([DICE.randbytes(size) for size in (0, 1, 63, 64, 65, 127, 1023, 1024)]), 200),
        HashCall(Rows.of([DICE.randbytes(size) for size in [0, *AROUND_CHUNKS, 5]]), 33),
        HashCall(Rows.even(DICE.randbytes(3 * 5000 + 1), 5000, 3, first=1), 32),
        HashCall(Rows.of([DICE.randbytes(100_000)]), 65_536),
    )

    def large(self) -> Sequence[HashCall]:
        lengths = [DICE.choice([3, 70, 1030, 20_000]) for _ in range(10_007)]
        return (
            HashCall(Rows.even(DICE.randbytes(64 * 1_000_003), 64, 1_000_003), 32),
            HashCall(Rows.of([DICE.randbytes(length) for length in lengths]), 33),
            HashCall(Rows.of([DICE.randbytes(200_000_001)]), 32),
        )


class TestBlake3Kernel(Blake3Cases, KernelSuite):
    pass
