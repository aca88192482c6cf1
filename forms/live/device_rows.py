"""Rows of bytes on a device, as rows.h reads them there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy

from forms.cuda.device import Buffer, Device
from forms.rows import Rows

U64_BYTES = 8


@dataclass(frozen=True, slots=True)
class DeviceRows:
    """What a kernel is given of rows: their bytes, their places, whether the places are even."""

    data: Buffer
    places: Buffer
    is_even: numpy.uint32


def upload_rows(device: Device, rows: Rows) -> DeviceRows:
    """Copy rows to a device, whatever lies between them too."""
    data = numpy.frombuffer(rows.data, numpy.uint8)
    if isinstance(rows.starts, range) and isinstance(rows.lengths, int):
        places = numpy.array([rows.starts.start, rows.starts.step, rows.lengths], numpy.uint64)
        return DeviceRows(device.upload(data), device.upload(places), numpy.uint32(1))
    _, starts, lengths = rows.arrays()
    places = numpy.concatenate([starts, lengths]).astype(numpy.uint64)
    return DeviceRows(device.upload(data), device.upload(places), numpy.uint32(0))


def rows_bytes(rows: Rows) -> int:
    """What rows take on a device."""
    places = 3 if isinstance(rows.starts, range) and isinstance(rows.lengths, int) else 2 * len(rows)
    return len(rows.data) + places * U64_BYTES
