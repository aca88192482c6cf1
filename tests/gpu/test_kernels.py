"""Every form's kernel on a GPU: the cases of the host build, launches cut small, and calls too large for the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.forms.cuda.kernel_suite import FEW_THREADS, KernelCases
from tests.forms.cuda.test_bignum_kernel import BignumCases
from tests.forms.cuda.test_blake3_kernel import Blake3Cases
from tests.forms.cuda.test_circuits_kernel import AxisCases, OpsBinCases
from tests.forms.cuda.test_radix_sort_kernel import RadixSortCases
from tests.forms.cuda.test_secp256k1_kernel import Secp256k1Cases
from tests.forms.cuda.test_shake_kernel import ShakeCases
from tests.gpu.plain_device import PlainDevice

if TYPE_CHECKING:
    from forms.cuda.cupy_device import CupyDevice

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

CASES: list[type[KernelCases]] = [
    ShakeCases,
    Blake3Cases,
    RadixSortCases,
    BignumCases,
    Secp256k1Cases,
    OpsBinCases,
    AxisCases,
]


def name_of(cases: Any) -> str:
    return str(cases.form.name)


@pytest.mark.parametrize("cases", CASES, ids=name_of)
def test_the_gpu_agrees_with_the_reference(cases: type[KernelCases], gpu: CupyDevice) -> None:
    cases().agrees(gpu)


@pytest.mark.parametrize("cases", CASES, ids=name_of)
def test_several_launches_change_nothing(cases: type[KernelCases], gpu: CupyDevice) -> None:
    from forms.cuda.cupy_device import CupyDevice

    cases().agrees(CupyDevice(gpu.ordinal, most_threads=FEW_THREADS))


@pytest.mark.parametrize("cases", CASES, ids=name_of)
def test_large_calls_agree(cases: type[KernelCases], gpu: CupyDevice) -> None:
    one = cases()
    one.shapes = one.large()
    if not one.shapes:
        pytest.skip("the edges are large enough")
    one.agrees(gpu)


def test_our_sort_says_what_the_gpus_own_says(gpu: CupyDevice) -> None:
    cases = RadixSortCases()
    cases.shapes = (*cases.shapes, *cases.large())
    cases.agrees(PlainDevice(gpu))
