"""The kernel of large numbers: nine operations, every class of widths, moduli that are odd, even, tiny and full."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest

from forms.cuda.host_device import HostDevice
from forms.live import bignum_kernel
from forms.live.bignum import BignumCgbn
from forms.live.bignum_call import BignumCall, Operation
from forms.live.bignum_kernel import BignumKernel
from forms.live.numbers import Numbers
from tests.forms.cuda.kernel_suite import KernelCases, KernelSuite

DICE = random.Random(4)
FORM = BignumCgbn()


def call(operation: Operation, bits: int, modulus: int, pairs: list[tuple[int, int]]) -> BignumCall:
    a, b = (Numbers.of([pair[place] for pair in pairs], bits // 8) for place in (0, 1))
    return BignumCall(operation, bits, modulus, a, b)


def random_call(operation: Operation, bits: int, is_odd: int, count: int) -> BignumCall:
    modulus = DICE.getrandbits(bits - 1) << 1 | is_odd
    a, b = (Numbers(DICE.randbytes(count * bits // 8), bits // 8) for _ in "ab")
    return BignumCall(operation, bits, modulus, a, b)


def moduli(bits: int) -> list[int]:
    """1, small, even, a power of two, full, and random ones of any length."""
    full = 1 << bits
    some = DICE.getrandbits(DICE.randrange(2, bits)) | 2
    return [1, 2, 3, 6, full - 1, full - 2, full >> 1, (full >> 1) + 1, some, some | 1, DICE.getrandbits(bits) | 1]


def operands(bits: int, modulus: int) -> list[int]:
    """Around 0, the modulus and the width; factors of the modulus, which have no inverse; any length."""
    full = 1 << bits
    edges = [0, 1, 2, modulus - 1, modulus, modulus + 1, 3 * modulus, full - 1, full - 2, full >> 1, full >> 32]
    return [edge % full for edge in edges] + [DICE.getrandbits(DICE.randrange(1, bits + 1)) for _ in range(4)]


def calls(bits: int, few: int = 0) -> Iterator[BignumCall]:
    """few: pairs of the operations that take long."""
    for modulus in moduli(bits):
        numbers = operands(bits, modulus)
        pairs = [(a, DICE.choice(numbers)) for a in numbers] + [(b, a) for a, b in pairwise(numbers)]
        for operation in Operation:
            are_few = few and operation >= Operation.MOD_POW
            yield call(operation, bits, modulus, DICE.sample(pairs, few) if are_few else pairs)


class BignumCases(KernelCases):
    form = BignumCgbn()
    shapes = (
        *[call(operation, 64, 97, pairs) for operation in Operation for pairs in ([], [(5, 7)])],
        *[call(operation, 256, 2**255 - 19, [(a, a * a) for a in range(131)]) for operation in Operation],
        *[one for bits in (64, 96, 128, 160, 256) for one in calls(bits)],
        *[one for bits in (288, 1024) for one in calls(bits, few=4)],
    )

    def large(self) -> Sequence[BignumCall]:
        """What fills a GPU, the widest in parts; powers and inverses are a hundredth, for the reference's sake."""
        return [
            random_call(operation, bits, is_odd, count // 100 if operation >= Operation.MOD_POW else count)
            for bits, count in ((256, 300_001), (2048, 20_001), (4096, 3_001))
            for is_odd in (0, 1)
            for operation in Operation
        ]


class TestBignumKernel(BignumCases, KernelSuite):
    def test_the_widest_numbers(self) -> None:
        kernel, device = BignumKernel(), HostDevice()
        for one in calls(4096, few=1):
            assert kernel.run(device, one) == FORM.reference(one), (one.operation, hex(one.modulus))

    def test_every_width_has_a_build(self) -> None:
        for bits in range(64, 4097, 32):
            modulus = DICE.getrandbits(bits) | 1
            one = call(Operation.MOD_MUL, bits, modulus, [(DICE.getrandbits(bits), DICE.getrandbits(bits))])
            assert BignumKernel().run(HostDevice(), one) == FORM.reference(one), bits

    @pytest.mark.parametrize("operation", Operation)
    def test_what_does_not_fit_the_device_at_once_is_taken_in_parts(
        self, operation: Operation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bignum_kernel, "MOST_BYTES", 4000)
        one = call(operation, 96, 2**90 - 33, [(DICE.getrandbits(96), DICE.getrandbits(96)) for _ in range(300)])
        assert BignumKernel().run(HostDevice(), one) == FORM.reference(one)
