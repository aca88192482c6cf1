"""The host build refuses what a GPU would do in silence, and says what is wrong in words."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest

from forms.cuda.host_build import NoCompiler, find_compiler
from forms.cuda.host_device import HostDevice
from forms.cuda.launches import split
from forms.errors import DeviceFailed
from tests.forms.cuda.kernel_suite import needs_a_compiler

ADD = """#include "host.h"
extern "C" __global__ void add(u64 first, const u32 *a, u32 *sums, u32 by, u64 count) {
    const u64 at = thread_number(first);
    if (at < count) sums[at] = a[at] + by;
}
extern "C" __global__ void reverse(u64 first, u32 *a, u64 count) {
    const u64 at = thread_number(first);
    if (at + 1 < count) a[at] = a[at + 1];
}
"""
FIVE = numpy.uint32(5)
COUNT = 1000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    needs_a_compiler()
    path = tmp_path / "add.cu"
    path.write_text(ADD)
    return path


@pytest.mark.parametrize("device", [HostDevice(), HostDevice(most_threads=1), HostDevice(backwards=True)])
def test_every_thread_runs_once(source: Path, device: HostDevice) -> None:
    numbers = numpy.arange(COUNT, dtype=numpy.uint32)
    sums = device.empty(4 * COUNT)
    for repeated in range(2):
        device.launch(source, "add", COUNT, [device.upload(numbers), sums, FIVE, numpy.uint64(COUNT)], block=64)
        assert (device.download(sums).view(numpy.uint32) == numbers + 5).all(), repeated


def test_the_other_order_shows_who_relies_on_one(source: Path) -> None:
    answers = []
    for device in (HostDevice(), HostDevice(backwards=True)):
        buffer = device.upload(numpy.arange(4, dtype=numpy.uint32))
        device.launch(source, "reverse", 4, [buffer, numpy.uint64(4)])
        answers.append(device.download(buffer).view(numpy.uint32).tolist())
    assert answers == [[1, 2, 3, 3], [3, 3, 3, 3]]


def test_no_threads_launch_nothing(source: Path) -> None:
    device = HostDevice()
    device.launch(source, "add", 0, [device.empty(0), device.empty(0), FIVE, numpy.uint64(99)])


def test_an_argument_of_another_width_is_refused(source: Path) -> None:
    device = HostDevice()
    buffer = device.zeros(4)
    for wrong in (numpy.uint32(1), buffer):
        with pytest.raises(DeviceFailed, match="parameters are '8PP48'"):
            device.launch(source, "add", 1, [buffer, buffer, FIVE, wrong])
    with pytest.raises(DeviceFailed, match="arguments are '8PP4'"):
        device.launch(source, "add", 1, [buffer, buffer, FIVE])


def test_a_write_beyond_a_buffer_is_seen(source: Path) -> None:
    device = HostDevice()
    with pytest.raises(DeviceFailed, match="add wrote beyond the 36 bytes of parameter 2"):
        device.launch(source, "add", 10, [device.zeros(40), device.zeros(36), FIVE, numpy.uint64(10)])


def test_what_is_wrong_with_a_source_is_said(source: Path) -> None:
    device = HostDevice()
    with pytest.raises(DeviceFailed, match=r"add\.cu has no kernel 'sub'; it has add, reverse"):
        device.launch(source, "sub", 1, [])
    (source.parent / "wrong.cu").write_text(ADD.replace("a[at] + by", "a[at] + bye"))
    with pytest.raises(DeviceFailed, match=r"wrong\.cu:4:.*bye"):
        device.launch(source.parent / "wrong.cu", "add", 1, [])


def test_a_host_without_a_compiler_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(NoCompiler, match="install one of"):
        find_compiler()


def test_launches_cover_all_threads_once() -> None:
    for threads in (0, 1, 127, 128, 129, 1000):
        for most in (1, 128, 300):
            numbers = [first + one for first, blocks in split(threads, 128, most) for one in range(blocks * 128)]
            assert numbers == list(range(-(-threads // 128) * 128))
            assert all(blocks * 128 <= max(128, most) for _, blocks in split(threads, 128, most))
