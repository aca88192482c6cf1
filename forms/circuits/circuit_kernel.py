"""The CUDA halves of the two forms on circuits: the same run, over one circuit or over many."""

from __future__ import annotations

from forms.circuits.device_runner import SOURCE
from forms.circuits.folder import CircuitCall, CircuitFolder
from forms.circuits.on_device import most_device_bytes, simulate_on_device
from forms.circuits.simulation import Result
from forms.cuda.device import Device


class _CircuitKernel:
    source = SOURCE

    def __init__(self, folder: CircuitFolder) -> None:
        self._folder = folder

    def device_bytes(self, call: CircuitCall) -> int:
        """The largest launch. Loads what is not loaded, and raises what that raises."""
        parts = self._folder.in_parts(call.paths)
        return max((most_device_bytes(circuits, call.options) for circuits in parts), default=0)

    def _results(self, device: Device, call: CircuitCall) -> list[Result]:
        parts = self._folder.in_parts(call.paths)
        return [result for circuits in parts for result in simulate_on_device(device, circuits, call.options)]


class OpsBinKernel(_CircuitKernel):
    """`cuda-sim-ops-bin` on a device."""

    def run(self, device: Device, call: CircuitCall) -> Result:
        """Run the one circuit."""
        return self._results(device, call)[0]


class AxisKernel(_CircuitKernel):
    """`cuda-sim-axis` on a device: all variants in as few launches as they fit in."""

    def run(self, device: Device, call: CircuitCall) -> list[Result]:
        """Run all of them, each file read once; results in order."""
        return self._results(device, call)
