"""`cuda-bignum-cgbn`: arithmetic on many pairs of large numbers under one modulus. Truth: exact integers (gmpy2's)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from forms.arguments import check_reply, expect_count, read_integer, read_list, read_number, read_symbol
from forms.datum import Datum
from forms.errors import BadArgument
from forms.frame import Body, HeadMeasure, fault_of
from forms.live.bignum_call import UNARY, BignumCall, Operation
from forms.live.numbers import Numbers

if TYPE_CHECKING:
    from forms.live.bignum_kernel import BignumKernel

HEAD = struct.Struct("<4sIII")
REPLY_HEAD = struct.Struct("<4sII")
MODULUS_OF_SAMPLE = 2**255 - 19
LEAST_BITS, MOST_BITS, STEP_BITS = 64, 4096, 32


ROW_WORK = 600
"""Of taking a row's numbers from their bytes and putting one back: measured with gmpy2, in products of words."""


class BignumCgbn:
    """Frame: `BCGB`, u32 operation, u32 bits, u32 n, modulus, a[n], b[n], each bits/8 bytes."""

    name = "cuda-bignum-cgbn"
    magic = b"BCGB"
    reply_magic = b"BCGR"

    def read_text(self, arguments: list[Datum]) -> BignumCall:
        expect_count(self.name, arguments, 4, 5)
        operation = Operation[
            read_symbol(arguments[0], "operation", [one.word for one in Operation]).upper().replace("-", "_")
        ]
        bits = read_integer(arguments[1], "bits", LEAST_BITS, MOST_BITS)
        _check_bits(bits)
        modulus = read_number(arguments[2], "modulus", bits)
        _check_modulus(operation, modulus)
        width = bits // 8
        a = _read_numbers(arguments[3], "a", width)
        if len(arguments) == 5:
            b = _read_numbers(arguments[4], "b", width)
        elif operation in UNARY:
            b = Numbers(bytes(len(a.data)), width)
        else:
            raise BadArgument(f"{operation.word}: expected a list of second operands as well")
        if len(b) != len(a):
            raise BadArgument(f"expected as many second operands as first, got {len(b)} and {len(a)}")
        return BignumCall(operation, bits, modulus, a, b)

    def write_text(self, result: Numbers) -> Datum:
        return result.as_text()

    def measure(self, limit_bytes: int) -> HeadMeasure:
        def body(fields: tuple[int, ...]) -> Body:
            operation, bits, count = fields
            if bits % 8:
                _check_bits(bits)  # numbers of so many bits have no length in bytes
            check_reply(REPLY_HEAD.size + count * bits // 8, limit_bytes)
            fault = fault_of(_operation, operation) or fault_of(_check_bits, bits)
            return Body(length=(1 + 2 * count) * bits // 8, fault=fault)

        return HeadMeasure(HEAD, body, limit_bytes)

    def read_frame(self, frame: bytes) -> BignumCall:
        _, number, bits, count = HEAD.unpack_from(frame)
        operation = _operation(number)
        _check_bits(bits)
        width = bits // 8
        modulus = int.from_bytes(frame[HEAD.size : HEAD.size + width], "little")
        _check_modulus(operation, modulus)
        operands = Numbers(memoryview(frame)[HEAD.size + width : HEAD.size + (1 + 2 * count) * width], width)
        return BignumCall(operation, bits, modulus, operands[:count], operands[count:])

    def write_frame(self, result: Numbers) -> bytes:
        return REPLY_HEAD.pack(self.reply_magic, len(result), 8 * result.width) + result.data

    def reply_bytes(self, call: BignumCall) -> int:
        return REPLY_HEAD.size + len(call.a) * call.bits // 8

    def work(self, call: BignumCall) -> float:
        """Products of 32-bit words, roughly, and what a row costs whatever is done with it."""
        words = call.bits // 32
        match call.operation:
            case Operation.ADD | Operation.SUB | Operation.MOD_ADD | Operation.MOD_SUB:
                each = words
            case Operation.MUL:
                each = words * words
            case Operation.MOD_MUL | Operation.MOD_SQR:
                each = 4 * words * words
            case Operation.MOD_INV:
                each = 2 * words * call.bits
            case Operation.MOD_POW:
                each = words * words * call.bits
        return float(len(call.a) * (ROW_WORK + each))

    def reference(self, call: BignumCall) -> Numbers:
        compute = _TABLE[call.operation]
        mask = (1 << call.bits) - 1
        modulus = call.modulus
        return Numbers.of((compute(a, b, modulus) & mask for a, b in zip(call.a, call.b, strict=True)), call.bits // 8)

    def fast(self, call: BignumCall) -> Numbers:
        """By whole rows, powers on all cores. Raises ImportError without gmpy2."""
        from forms.live.bignum_fast import compute_numbers

        return compute_numbers(call)

    def sample(self, rows: int) -> BignumCall:
        """Powers: of the nine operations the one that has most of the others in it."""
        a, b = ([(row * step) % 2**256 for row in range(rows)] for step in (MODULUS_OF_SAMPLE // 3, 2**256 // 7))
        return BignumCall(Operation.MOD_POW, 256, MODULUS_OF_SAMPLE, Numbers.of(a, 32), Numbers.of(b, 32))

    @cached_property
    def kernel(self) -> BignumKernel:
        from forms.live.bignum_kernel import BignumKernel  # numpy: 20 MB that a door need not hold

        return BignumKernel()


def _power(a: int, b: int, modulus: int) -> int:
    """gmpy2 is some ten times faster here than Python, and a node that never asks need not hold it."""
    try:
        from gmpy2 import powmod
    except ImportError:
        return pow(a, b, modulus)
    return int(powmod(a, b, modulus))


def _inverse(a: int, b: int, modulus: int) -> int:
    """0 where there is none; modulo 1 everything is 0."""
    try:
        return pow(a, -1, modulus)
    except ValueError:
        return 0


_TABLE: dict[Operation, Callable[[int, int, int], int]] = {
    Operation.ADD: lambda a, b, modulus: a + b,
    Operation.SUB: lambda a, b, modulus: a - b,
    Operation.MUL: lambda a, b, modulus: a * b,
    Operation.MOD_ADD: lambda a, b, modulus: (a + b) % modulus,
    Operation.MOD_SUB: lambda a, b, modulus: (a - b) % modulus,
    Operation.MOD_MUL: lambda a, b, modulus: a * b % modulus,
    Operation.MOD_SQR: lambda a, b, modulus: a * a % modulus,
    Operation.MOD_POW: _power,
    Operation.MOD_INV: _inverse,
}


def _read_numbers(datum: Datum, what: str, width: int) -> Numbers:
    return Numbers.of([read_number(item, what, 8 * width) for item in read_list(datum, "numbers in hex")], width)


def _operation(number: int) -> Operation:
    try:
        return Operation(number)
    except ValueError:
        raise BadArgument(f"operation: expected 0 to {max(Operation)}, got {number}") from None


def _check_bits(bits: int) -> None:
    if not LEAST_BITS <= bits <= MOST_BITS or bits % STEP_BITS:
        raise BadArgument(f"bits: expected a multiple of {STEP_BITS} from {LEAST_BITS} to {MOST_BITS}, got {bits}")


def _check_modulus(operation: Operation, modulus: int) -> None:
    if modulus == 0 and operation >= Operation.MOD_ADD:
        raise BadArgument(f"{operation.word}: the modulus must not be 0")
