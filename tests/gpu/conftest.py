"""The GPU of this host, or a skip that says what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from forms.cuda.cupy_device import CupyDevice


@pytest.fixture(scope="session")
def gpu() -> CupyDevice:
    pytest.importorskip("cupy", reason="CuPy is not installed: the extra cuda12 or cuda13 brings it")
    from forms.cuda.cupy_device import CupyDevice, gpu_count

    if not gpu_count():
        pytest.skip("this host has no NVIDIA GPU, or no driver for it")
    return CupyDevice()
