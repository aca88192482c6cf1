"""The bench of a GPU, tried on the host build: every case is answered and has its published figure."""

from __future__ import annotations

import math
from pathlib import Path

import numpy
import pytest

from bench.forms_gpu import STOCK, circuit_rows, form_rows, published, show
from bench.gpu_cases import CASES
from bench.gpu_rates import SOURCE, Effort, Rates, measure_rates
from forms.cuda.host_device import HostDevice
from tests.forms.circuits.files import golden_bytes
from tests.forms.cuda.kernel_suite import needs_a_compiler

SLOW = Rates(bytes=1e9, logic=1e9, multiply_adds=1e9)


@pytest.fixture
def device() -> HostDevice:
    needs_a_compiler()
    return HostDevice()


def nothing() -> None:
    pass


def test_every_case_gives_a_line_with_a_figure_and_a_ceiling(device: HostDevice) -> None:
    rows = list(form_rows(device, nothing, SLOW, scale=3e-6, rounds=1))

    circuits = {"circuit-141-batches", "axis-32x4"}
    assert {row.case for row in rows} == published().keys() - circuits
    for row in rows:
        assert 0 < row.ours < math.inf, show(row)
        assert row.ratio == row.ours / row.baseline
        assert (row.ceiling is None) == (row.case == "shake-over-hashlib")
        assert f"of {row.baseline:g} (published, RTX 3090)" in show(row)


def test_circuits_have_their_lines(device: HostDevice, tmp_path: Path) -> None:
    pytest.importorskip("numba", reason="numba is not installed: the extra cpu-forms brings it")
    (tmp_path / STOCK).write_bytes(golden_bytes("toy_norand.bin"))

    rows = list(circuit_rows(device, tmp_path, rounds=1))

    assert [row.case for row in rows] == ["circuit-141-batches", "axis-32x4"]
    assert all(0 < row.ours < math.inf for row in rows)


def test_a_ceiling_is_what_is_scarcest() -> None:
    rates = Rates(bytes=100, logic=10, multiply_adds=1)
    assert Effort(bytes=100, logic=20, multiply_adds=1).least_s(rates) == 2
    assert Effort(bytes=300, logic=20, multiply_adds=1).least_s(rates) == 3
    assert Effort(bytes=300, logic=20, multiply_adds=7).least_s(rates) == 7


def test_rates_are_measured(device: HostDevice) -> None:
    rates = measure_rates(device, nothing, threads=100, rounds=50)
    assert min(rates.bytes, rates.logic, rates.multiply_adds) > 0


def test_the_copy_that_bytes_are_rated_by_copies_every_word(device: HostDevice) -> None:
    words, threads = numpy.arange(1000, dtype=numpy.uint64), 7
    target = device.zeros(words.nbytes)
    sizes = (numpy.uint64(threads), numpy.uint64(len(words)))
    device.launch(SOURCE, "copy", threads, [device.upload(words), target, *sizes])
    assert (device.download(target).view(numpy.uint64) == words).all()


def test_frames_are_as_large_as_they_say() -> None:
    for case in CASES:
        call = case.form.read_frame(case.frame(2))
        assert case.form.work(call) > 0
