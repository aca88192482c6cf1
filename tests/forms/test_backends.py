"""A faster way serves only once it has given the truth here; what is wrong or missing is told, and the truth serves."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from forms.backend import Backend
from forms.backends import SAMPLE_ROWS, Backends, KernelFailed
from forms.catalogue import Catalogue
from forms.cuda.device import Device, all_device_bytes
from forms.cuda.host_device import HostDevice
from forms.errors import BadArgument, Busy, DeviceFailed, FormFailed
from forms.evaluate import Evaluator
from forms.live.digests import Digests, HashCall
from forms.live.shake import ShakeFanout
from forms.rows import Rows

Compute = Callable[[HashCall], Digests]


class TestKernel:
    """A kernel whose answer is the test's to choose."""

    __test__ = False
    source = Path("none.cu")

    def __init__(self, compute: Compute) -> None:
        self._compute = compute

    def device_bytes(self, call: HashCall) -> int:
        return 1000 * len(call.inputs)

    def run(self, device: Device, call: HashCall) -> Digests:
        return self._compute(call)


class Hashing(ShakeFanout):
    """SHAKE-256 with ways of the test's choosing; the truth stays the truth."""

    def __init__(self, fast: Compute, kernel: Compute | None = None) -> None:
        self._fast = fast
        self._kernel = TestKernel(kernel or fast)

    def fast(self, call: HashCall) -> Digests:
        return self._fast(call)

    @property
    def kernel(self) -> TestKernel:  # type: ignore[override]
        return self._kernel


class StackKernel(TestKernel):
    """One whose threads have a stack of 100 bytes a row."""

    def stack_bytes(self, call: HashCall) -> int:
        return 100 * len(call.inputs)


class ManyThreads(HostDevice):
    """A device that keeps stacks for 7 threads."""

    @property
    def resident_threads(self) -> int:
        return 7


def truth(call: HashCall) -> Digests:
    return ShakeFanout().reference(call)


def wrong(call: HashCall) -> Digests:
    """Right for all but the last row."""
    rows = bytearray(truth(call).rows)
    rows[-1:] = bytes([rows[-1] ^ 1]) if rows else b""
    return Digests(bytes(rows), call.out_bytes)


def missing(call: HashCall) -> Digests:
    raise ImportError("No module named 'numba'")


def failing(call: HashCall) -> Digests:
    raise ZeroDivisionError("by none")


def broken(call: HashCall) -> Digests:
    raise DeviceFailed("an illegal address was met")


CALL = HashCall(Rows.of([b"a", b"bc"]), 32)


@pytest.mark.parametrize(
    ("fast", "kernel", "device", "used", "told"),
    [
        (truth, truth, None, Backend.CPU, ""),
        (truth, truth, HostDevice(), Backend.CUDA, ""),
        (truth, wrong, HostDevice(), Backend.CPU, "cuda way is wrong"),
        (wrong, wrong, HostDevice(), Backend.REFERENCE, "cpu way is wrong"),
        (missing, wrong, None, Backend.REFERENCE, "No module named 'numba'"),
        (failing, truth, None, Backend.REFERENCE, "cpu way failed"),
    ],
)
def test_the_best_way_that_is_right_serves(
    fast: Compute, kernel: Compute, device: Device | None, used: Backend, told: str
) -> None:
    lines: list[str] = []
    backends, form = Backends(device, tell=lines.append), Hashing(fast, kernel)
    for _ in range(2):
        assert backends.compute(form, CALL) == (truth(CALL), used)
    assert told in " ".join(lines)
    assert bool(lines) == bool(told)


def test_a_way_is_checked_once_on_a_small_call() -> None:
    asked: list[int] = []

    def watched(call: HashCall) -> Digests:
        asked.append(len(call.inputs))
        return truth(call)

    backends, form = Backends(), Hashing(watched)
    for _ in range(3):
        backends.compute(form, CALL)
    assert asked == [SAMPLE_ROWS, 2, 2, 2]


def test_memory_of_the_device_is_asked_for_before_it_is_used() -> None:
    held: list[int] = []
    Backends(HostDevice(), held.append).compute(Hashing(truth), CALL)
    assert held == [1000 * SAMPLE_ROWS, 2000]


def test_a_device_that_failed_is_not_gone_on_with_and_no_other_error_is_hidden() -> None:
    with pytest.raises(KernelFailed, match="an illegal address") as raised:
        Backends(HostDevice()).compute(Hashing(truth, broken), CALL)
    without = Backends(HostDevice(), without=[raised.value.form])
    assert without.compute(Hashing(truth, broken), CALL) == (truth(CALL), Backend.CPU)
    evaluator = Evaluator(Catalogue([Hashing(truth, broken)]), Backends(HostDevice()))
    with pytest.raises(DeviceFailed):
        evaluator.text(b'(cuda-shake-fanout \'("00") 32)')

    def after_the_check(call: HashCall) -> Digests:
        if len(call.inputs) == SAMPLE_ROWS:
            return truth(call)
        raise {1: ZeroDivisionError, 2: BadArgument, 3: MemoryError}[len(call.inputs)]("so")

    backends, form = Backends(), Hashing(after_the_check)
    for rows, error in ((1, FormFailed), (2, BadArgument), (3, BadArgument)):
        with pytest.raises(error):
            backends.compute(form, HashCall(Rows.of([b""] * rows), 1))


def test_a_call_that_finds_no_memory_is_busy_and_teaches_nothing() -> None:
    def refuse(size_bytes: int) -> None:
        raise Busy("the models have it")

    evaluator = Evaluator(Catalogue([Hashing(truth)]), reserve=refuse)
    said = evaluator.text(b'(cuda-shake-fanout \'("00") 32)')
    assert said.reply == b'(error (busy "the models have it"))\n'
    assert said.is_error
    framed = evaluator.frame(struct.pack("<4sIII", b"BSHK", 32, 1, 1) + b"x")
    assert framed.reply.startswith(b"BERR\x06")


@pytest.mark.parametrize(
    ("kernel", "device", "expected"),
    [
        (TestKernel(truth), ManyThreads(), 3000),
        (StackKernel(truth), HostDevice(), 3000),
        (StackKernel(truth), ManyThreads(), 3000 + 3 * 100 * 7),
    ],
)
def test_stacks_that_a_device_keeps_for_its_threads_count(kernel: TestKernel, device: Device, expected: int) -> None:
    assert all_device_bytes(kernel, device, ShakeFanout().sample(3)) == expected
