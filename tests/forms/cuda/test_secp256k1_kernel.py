"""The kernel of secp256k1: scalars at every edge of the group, bases with and without a table, runs of inversions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy
import pytest

from forms.cuda.host_device import HostDevice
from forms.live import secp256k1_kernel
from forms.live.numbers import Numbers
from forms.live.points import GENERATOR, ORDER, PRIME, Point, PointCall
from forms.live.secp256k1 import Secp256k1BatchedMul
from forms.live.secp256k1_kernel import LEAST_FOR_TABLE, SOURCE, Secp256k1Kernel
from tests.forms.cuda.kernel_suite import KernelCases, KernelSuite

DICE = random.Random(6)
MINUS = (GENERATOR[0], PRIME - GENERATOR[1])
FORM = Secp256k1BatchedMul()


def call(scalars: list[int], base: Point = GENERATOR) -> PointCall:
    return PointCall(Numbers.of(scalars, 32), base)


EDGES = [0, 1, 2, 3, 15, 16, 17, 2**128, 2**255, ORDER - 2, ORDER - 1, ORDER, ORDER + 1, ORDER + 2, 2**256 - 1]
# The last window adds to what is the same point already, where a window has 4, 5 or 8 bits.
EDGES += [ORDER + 2 * (-ORDER % 2**width) for width in (4, 5, 8)]
# Window by window: zeros between digits, the last digit alone, all digits the same.
PATTERNS = [1 << 252, 0xF << 252, 0x1 << 128 | 1, int("11" * 32, 16), int("f0" * 32, 16), int("0f" * 32, 16)]
(OTHER,) = FORM.reference(call([DICE.randrange(ORDER)]))


FIELD_PROBE = """
extern "C" __global__ void probe(u64 first, const u32* a, const u32* b, u32* out, u32 count) {
    u64 item = thread_number(first);
    if (item >= count) return;
    Field x = read_row(a + 8 * item), y = read_row(b + 8 * item);
    write_row(out + 40 * item, lowest(add(x, y)));
    write_row(out + 40 * item + 8, lowest(subtract(x, y)));
    write_row(out + 40 * item + 16, lowest(multiply(x, y)));
    write_row(out + 40 * item + 24, lowest(square(x)));
    write_row(out + 40 * item + 32, lowest(invert(x)));
}
"""


class Secp256k1Cases(KernelCases):
    form = FORM
    shapes = (
        call([]),
        call([5]),
        call(EDGES + PATTERNS),
        call([DICE.getrandbits(256) for _ in range(131)]),
        call([1, 2], None),
        *[call([*EDGES, *PATTERNS, *(DICE.getrandbits(256) for _ in range(9))], base) for base in (MINUS, OTHER)],
    )

    def large(self) -> Sequence[PointCall]:
        """Enough for a table of another base, and for one inversion to serve several."""
        many = Numbers(DICE.randbytes(32 * 200_003), 32)
        return [PointCall(many, GENERATOR), PointCall(many[: LEAST_FOR_TABLE + 1], OTHER)]


class TestSecp256k1Kernel(Secp256k1Cases, KernelSuite):
    @pytest.mark.parametrize("width", [4, 5])
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

    def test_arithmetic_in_the_field(self, tmp_path: Path) -> None:
        """Of any two numbers below 2^256, the prime and those above it too, which points come to by chance alone."""
        source = tmp_path / "field.cu"
        source.write_text(SOURCE.read_text("utf-8") + FIELD_PROBE, "utf-8")
        edges = [0, 1, 977, 2**32, PRIME - 1, PRIME, PRIME + 1, 2**256 - 1, 2**256 - 2**32, 2**255]
        numbers = edges + [DICE.getrandbits(256) for _ in range(6)]
        pairs = [(a, b) for a in numbers for b in numbers]
        device = HostDevice()
        a, b = (device.upload(Numbers.of([pair[place] for pair in pairs], 32).data) for place in (0, 1))
        results = device.empty(5 * 32 * len(pairs))
        device.launch(source, "probe", len(pairs), [a, b, results, numpy.uint32(len(pairs))])
        said = list(Numbers(device.download(results).data, 32))
        expected = [[a + b, a - b, a * b, a * a, 0 if a % PRIME == 0 else pow(a, -1, PRIME)] for a, b in pairs]
        assert said == [one % PRIME for row in expected for one in row]

    def test_the_generators_table_is_made_once_for_a_device(self) -> None:
        kernel, device = Secp256k1Kernel(4), HostDevice()
        kernel.run(device, call([1]))
        kept = kernel._kept
        kernel.run(device, call([2]))
        assert kernel._kept is kept
        kernel.run(HostDevice(), call([2]))
        assert kernel._kept is not kept
