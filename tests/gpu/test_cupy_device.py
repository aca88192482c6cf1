"""What a GPU says when it fails, and that memory is what was asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import pytest

from forms.errors import DeviceFailed

if TYPE_CHECKING:
    from forms.cuda.cupy_device import CupyDevice

pytestmark = pytest.mark.gpu

STRAY = """#include "host.h"
extern "C" __global__ void stray(u64 first, u64 *cells, u64 far) { cells[thread_number(first) + far] = 1; }
"""
CHILD = """
import sys
from pathlib import Path
import numpy
from forms.cuda.cupy_device import CupyDevice
from forms.errors import DeviceFailed

device = CupyDevice()
buffer = device.zeros(64)
try:
    device.launch(Path(sys.argv[1]), "stray", 1, [buffer, numpy.uint64(1 << 50)])
    device.download(buffer)
except DeviceFailed as error:
    print(error)
"""


def test_bytes_go_there_and_back(gpu: CupyDevice) -> None:
    for size in (0, 1, 1_000_003):
        data = numpy.random.default_rng(size).integers(0, 256, size, numpy.uint8)
        for form in (data, data.tobytes(), memoryview(data.tobytes())):
            assert (gpu.download(gpu.upload(form)) == data).all()
        zeros = gpu.zeros(size)
        assert zeros.size_bytes == size
        assert not gpu.download(zeros).any()


def test_free_memory_is_what_can_be_had(gpu: CupyDevice) -> None:
    free = gpu.free_bytes
    held = gpu.empty(256 << 20)
    assert free - gpu.free_bytes >= held.size_bytes // 2
    with pytest.raises(DeviceFailed, match="not enough free memory"):
        gpu.empty(1 << 50)
    assert gpu.download(gpu.zeros(8)).sum() == 0


def test_it_tells_how_many_threads_it_keeps_stacks_for(gpu: CupyDevice) -> None:
    assert gpu.resident_threads >= 2048
    assert gpu.resident_threads % 32 == 0


def test_a_source_that_is_wrong_says_where(gpu: CupyDevice, tmp_path: Path) -> None:
    path = tmp_path / "wrong.cu"
    path.write_text(STRAY.replace("far]", "fare]"))
    with pytest.raises(DeviceFailed, match=r"wrong\.cu\(2\)"):
        gpu.launch(path, "stray", 1, [gpu.zeros(8), numpy.uint64(0)])


def test_a_device_that_is_not_there_is_refused(gpu: CupyDevice) -> None:
    from forms.cuda.cupy_device import CupyDevice, gpu_count

    with pytest.raises(DeviceFailed):
        CupyDevice(gpu_count())
    CupyDevice(gpu.ordinal)


def test_an_illegal_address_is_an_error_of_ours(gpu: CupyDevice, tmp_path: Path) -> None:
    """In a process of its own: the context is lost with it."""
    path = tmp_path / "stray.cu"
    path.write_text(STRAY)
    done = subprocess.run([sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, timeout=100)
    assert "the GPU failed" in done.stdout, done.stdout + done.stderr
    assert "llegal" in done.stdout
