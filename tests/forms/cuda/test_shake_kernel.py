"""SHAKE-256's kernel: rates, borders of lanes, rows of one length and of many."""

from __future__ import annotations

import random
from collections.abc import Sequence

from forms.live.digests import HashCall
from forms.live.shake import RATE, ShakeFanout
from forms.rows import Rows
from tests.forms.cuda.kernel_suite import KernelCases, KernelSuite

DICE = random.Random(5)


class ShakeCases(KernelCases):
    form = ShakeFanout()
    shapes = (
        HashCall(Rows.of([]), 32),
        HashCall(Rows.of([b""]), 1),
        HashCall(Rows.even(DICE.randbytes(16 + 300 * 16), 16, 300, first=16), 32),
        HashCall(Rows.even(DICE.randbytes(12 + 300 * 20), 16, 299, first=16, gap=4), 32),
        HashCall(Rows.of([DICE.randbytes(13) for _ in range(129)]), 7),
        *[HashCall(Rows.of([DICE.randbytes(size) for size in range(2 * RATE + 10)]), width) for width in (8, 137)],
        HashCall(Rows.of([DICE.randbytes(8 * size) for size in range(40)]), 2 * RATE),
        HashCall(Rows.of([b"x"]), 65_536),
    )

    def large(self) -> Sequence[HashCall]:
        lengths = [DICE.randrange(400) for _ in range(100_003)]
        return (
            HashCall(Rows.even(DICE.randbytes(16 * 1_000_003), 16, 1_000_003), 32),
            HashCall(Rows.of([DICE.randbytes(length) for length in lengths]), 33),
        )


class TestShakeKernel(ShakeCases, KernelSuite):
    pass
