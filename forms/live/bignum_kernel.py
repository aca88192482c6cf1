"""Arithmetic on large numbers on a device: one pair a thread, in the narrowest build of the kernel that holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from forms.cuda.device import Buffer, Device
from forms.live.bignum_call import BignumCall, Operation
from forms.live.numbers import Numbers

LIMB_BITS, LIMB_BYTES = 32, 4
CLASSES = (4, 8, 32, 128)
"""Limbs that the builds hold: bignum_4.cu and so on."""
UNROLLED = 8
"""Up to this class a build computes in its full width; above it, in as many limbs as the numbers have."""
TABLE_ENTRIES = 15
"""Powers of a that mod-pow keeps: bignum.cuh's window of 4 bits, without the power 0."""
STACK_NUMBERS = 7
"""Numbers that a thread of mod-pow has in memory where they are too wide for registers; the others have fewer."""
MOST_BYTES = 256 << 20
"""Of the device, at a time."""


@dataclass(frozen=True, slots=True)
class Shape:
    """words: of a row, as frames have it.  limbs: that the kernel computes with.  room: for limbs, in its `source`."""

    words: int
    limbs: int
    room: int
    source: Path

    @classmethod
    def of(cls, bits: int) -> Shape:
        """The build for a width."""
        words = bits // LIMB_BITS
        width = next(width for width in CLASSES if words <= width)
        return cls(words, width if width <= UNROLLED else words, width, Path(__file__).with_name(f"bignum_{width}.cu"))


class BignumKernel:
    """The kernel of `cuda-bignum-cgbn`."""

    source = Path(__file__).with_name(f"bignum_{UNROLLED}.cu")

    def device_bytes(self, call: BignumCall) -> int:
        each = _item_bytes(call)
        return min(len(call.a), _at_once(each)) * each + (5 * Shape.of(call.bits).limbs + 3) * LIMB_BYTES

    def stack_bytes(self, call: BignumCall) -> int:
        width = Shape.of(call.bits).room
        return STACK_NUMBERS * width * LIMB_BYTES if width > UNROLLED else 0

    def run(self, device: Device, call: BignumCall) -> Numbers:
        width, count = call.bits // 8, len(call.a)
        if not count or (call.modulus == 1 and call.operation >= Operation.MOD_ADD):
            return Numbers(bytes(count * width), width)
        shape, at_once = Shape.of(call.bits), _at_once(_item_bytes(call))
        constants = _upload_constants(device, call, shape.limbs)
        parts = [
            _run(device, call, slice(start, start + at_once), shape, constants) for start in range(0, count, at_once)
        ]
        return Numbers(parts[0].data if len(parts) == 1 else numpy.concatenate(parts).data, width)


def _item_bytes(call: BignumCall) -> int:
    table = TABLE_ENTRIES * Shape.of(call.bits).limbs * LIMB_BYTES if call.operation is Operation.MOD_POW else 0
    return 3 * call.bits // 8 + table


def _at_once(item_bytes: int) -> int:
    return MOST_BYTES // item_bytes


def _run(device: Device, call: BignumCall, part: slice, shape: Shape, constants: Buffer) -> Any:
    """The results of a part of the pairs, as bytes."""
    a, b = call.a[part], call.b[part]
    count = len(a)
    first = device.upload(a.data)
    second = first if call.operation in (Operation.MOD_SQR, Operation.MOD_INV) else device.upload(b.data)
    results = device.empty(len(a.data))
    kernel, arguments = _launch(device, call.operation, first, second, constants, count * shape.limbs)
    sizes = (results, numpy.uint32(shape.words), numpy.uint32(count))
    device.launch(shape.source, kernel, count, [*arguments, *sizes])
    return device.download(results)


def _launch(
    device: Device, operation: Operation, a: Buffer, b: Buffer, constants: Buffer, limbs: int
) -> tuple[str, Sequence[Any]]:
    """The kernel of an operation, and what it takes before the results' place and the sizes. limbs: of all numbers."""
    match operation:
        case Operation.ADD | Operation.SUB | Operation.MUL:
            return "wrapping", (a, b, numpy.uint32(operation))
        case Operation.MOD_ADD | Operation.MOD_SUB:
            return "mod_sum", (a, b, numpy.uint32(operation is Operation.MOD_SUB), constants)
        case Operation.MOD_MUL | Operation.MOD_SQR:
            return "mod_mul", (a, b, constants)
        case Operation.MOD_POW:
            return "mod_pow", (a, b, constants, device.empty(TABLE_ENTRIES * limbs * LIMB_BYTES))
        case Operation.MOD_INV:
            return "mod_inv", (a, constants)


def _upload_constants(device: Device, call: BignumCall, limbs: int) -> Buffer:
    """What depends on the modulus alone: struct Modulus of bignum.cuh. Nothing where there is none."""
    if call.operation < Operation.MOD_ADD:
        return device.empty(0)
    bits, modulus = limbs * LIMB_BITS, call.modulus
    shift = bits - modulus.bit_length()
    shifted = modulus << shift
    numbers = (
        modulus,
        shifted,
        ((1 << 2 * bits) - 1) // shifted - (1 << bits),
        (1 << 2 * bits) % modulus,
        (1 << bits) % modulus,
    )
    is_odd = modulus % 2
    negative_inverse = -pow(modulus, -1, 1 << LIMB_BITS) % (1 << LIMB_BITS) if is_odd else 0
    words = Numbers.of((shift, negative_inverse, is_odd), LIMB_BYTES).data
    return device.upload(bytes(Numbers.of(numbers, limbs * LIMB_BYTES).data) + bytes(words))
