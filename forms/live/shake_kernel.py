"""SHAKE-256 on a device: one input a thread."""

from __future__ import annotations

from pathlib import Path

import numpy

from forms.cuda.device import Device
from forms.live.device_rows import rows_bytes, upload_rows
from forms.live.digests import Digests, HashCall


class ShakeKernel:
    """The kernel of `cuda-shake-fanout`."""

    source = Path(__file__).with_name("shake.cu")

    def device_bytes(self, call: HashCall) -> int:
        return rows_bytes(call.inputs) + len(call.inputs) * call.out_bytes

    def run(self, device: Device, call: HashCall) -> Digests:
        count, width = len(call.inputs), call.out_bytes
        rows = upload_rows(device, call.inputs)
        digests = device.empty(count * width)
        sizes = (numpy.uint64(width), numpy.uint64(count))
        device.launch(self.source, "shake256", count, [rows.data, rows.places, rows.is_even, digests, *sizes])
        return Digests(device.download(digests).tobytes(), width)
