"""What every form's kernel keeps: it says what the reference says, byte for byte, whatever device runs it.

A test class brings `form` and `shapes`; here the host build runs them, in tests/gpu a GPU does.
shapes: text calls, or calls, small enough for one core: none, one, counts that fill no block, whatever else is an edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from forms.backend import HasKernel, HasSample
from forms.backends import SAMPLE_ROWS
from forms.cuda.device import Device
from forms.cuda.host_build import NoCompiler, find_compiler
from forms.cuda.host_device import HostDevice
from forms.form import Form
from forms.suite import arguments_of
from forms.writer import write_datum
from tests.forms.cuda.counting_device import CountingDevice

FEW_THREADS = 256
"""Of a launch, so that small inputs take several."""


def needs_a_compiler() -> None:
    """Skip, in words, where there is none."""
    try:
        find_compiler()
    except NoCompiler as error:
        pytest.skip(str(error))


class KernelCases:
    """Subclass it with the attributes above."""

    form: Form[Any, Any]
    shapes: Sequence[Any]

    def call(self, shape: Any) -> Any:
        """The call of a shape."""
        return self.form.read_text(arguments_of(shape)) if isinstance(shape, str) else shape

    def large(self) -> Sequence[Any]:
        """Shapes that only a GPU is asked for."""
        return ()

    def agrees(self, device: Device) -> None:
        """Every shape's answer by the kernel is the reference's."""
        assert isinstance(self.form, HasKernel)
        for number, shape in enumerate(self.shapes):
            call = self.call(shape)
            answer = self.written(self.form.kernel.run(device, call))
            assert answer == self.written(self.form.reference(call)), f"shape {number}: {str(shape)[:120]}"

    def written(self, result: Any) -> bytes | str:
        """As a client gets it."""
        return self.form.write_frame(result) if self.form.magic else write_datum(self.form.write_text(result))


class KernelSuite(KernelCases):
    """The cases on the host build."""

    @pytest.fixture(autouse=True)
    def _needs_a_compiler(self) -> None:
        needs_a_compiler()

    def test_the_host_build_agrees_with_the_reference(self) -> None:
        self.agrees(HostDevice())

    def test_several_launches_and_threads_in_another_order_change_nothing(self) -> None:
        self.agrees(HostDevice(most_threads=FEW_THREADS, backwards=True))

    def test_the_sample_that_a_worker_checks_it_on(self) -> None:
        assert isinstance(self.form, HasSample)
        self.shapes = [self.form.sample(rows) for rows in (1, SAMPLE_ROWS)]
        self.agrees(HostDevice())

    def test_device_memory_is_known_before(self) -> None:
        assert isinstance(self.form, HasKernel)
        for shape in self.shapes:
            device = CountingDevice()
            call = self.call(shape)
            self.form.kernel.run(device, call)
            said = self.form.kernel.device_bytes(call)
            assert device.most_bytes <= said, f"{device.most_bytes} bytes taken, {said} said: {str(shape)[:120]}"
