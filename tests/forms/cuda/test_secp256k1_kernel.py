"""The kernel of secp256k1: scalars at every edge of the group, bases with and without a table, runs of inversions."""

from __future__ import annotations

import random
from functools import cached_property

import pytest

from forms.cuda.host_device import HostDevice
from forms.live import secp256k1_kernel
from forms.live.numbers import Numbers
from forms.live.points import GENERATOR, ORDER, PRIME, Point, PointCall
from forms.live.secp256k1 import Secp256k1BatchedMul
from forms.live.secp256k1_kernel import Secp256k1Kernel
from tests.forms.cuda.kernel_suite import KernelCases, KernelSuite

DICE = random.Random(6)
MINUS = (GENERATOR[0], PRIME - GENERATOR[1])
FORM = Secp256k1BatchedMul()


def call(scalars: list[int], base: Point = GENERATOR) -> PointCall:
    return PointCall(Numbers.of(scalars, 32), base)


EDGES = [0, 1, 2, 3, 15, 16, 17, 2**128, 2**255, ORDER - 2, ORDER - 1, ORDER, ORDER + 1, ORDER + 2, 2**256 - 1]
# Window by window: zeros between digits, the last digit alone, all digits the same.
PATTERNS = [1 << 252, 0xF << 252, 0x1 << 128 | 1, int("11" * 32, 16), int("f0" * 32, 16), int("0f" * 32, 16)]
(OTHER,) = FORM.reference(call([DICE.randrange(ORDER)]))


class SmallWindows(Secp256k1BatchedMul):
    """A table of 1,024 points takes the host a tenth of the time that one of 8,192 does."""

    @cached_property
    def kernel(self) -> Secp256k1Kernel:
        return Secp256k1Kernel(width=4)


class Secp256k1Cases(KernelCases):
    form = SmallWindows()
    shapes = (
        call([]),
        call([5]),
        call(EDGES + PATTERNS),
        call([DICE.getrandbits(256) for _ in range(131)]),
        call([1, 2], None),
        *[call([*EDGES, *PATTERNS, *(DICE.getrandbits(256) for _ in range(9))], base) for base in (MINUS, OTHER)],
    )


class TestSecp256k1Kernel(Secp256k1Cases, KernelSuite):
    @pytest.mark.parametrize("width", [5, 8])
    @pytest.mark.parametrize("base", [GENERATOR, OTHER])
    def test_windows_of_any_width_and_pieces_and_runs_of_inversions(
        self, width: int, base: Point, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """5 does not divide 256; infinity lies first, last and in the midst of a run."""
        monkeypatch.setattr(secp256k1_kernel, "LEAST_FOR_TABLE", 1)
        monkeypatch.setattr(secp256k1_kernel, "INVERTING_THREADS", 4)
        monkeypatch.setattr(secp256k1_kernel, "MOST_ITEMS", 50)
        scalars = [0, *EDGES, *PATTERNS, 0, ORDER, *(DICE.getrandbits(256) for _ in range(40)), 0]
        kernel, asked = Secp256k1Kernel(width), call(scalars, base)
        assert list(kernel.run(HostDevice(), asked)) == list(FORM.reference(asked))

    def test_the_generators_table_is_made_once_for_a_device(self) -> None:
        kernel, device = Secp256k1Kernel(4), HostDevice()
        kernel.run(device, call([1]))
        kept = kernel._kept
        kernel.run(device, call([2]))
        assert kernel._kept is kept
        kernel.run(HostDevice(), call([2]))
        assert kernel._kept is not kept
