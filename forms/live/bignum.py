"""`cuda-bignum-cgbn`: arithmetic on many pairs of large numbers under one modulus. Truth: exact integers (gmpy2's)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from forms.arguments import check_reply, expect_count, read_integer, read_list, read_number, read_symbol
from forms.datum import Datum
from forms.errors import BadArgument
from forms.frame import Body, HeadMeasure

HEAD = struct.Struct("<4sIII")
REPLY_HEAD = struct.Struct("<4sII")
LEAST_BITS, MOST_BITS, STEP_BITS = 64, 4096, 32


class Operation(IntEnum):
    """As frames number them. The first three wrap at the width; MUL keeps the low half."""

    ADD = 0
    SUB = 1
    MUL = 2
    MOD_ADD = 3
    MOD_SUB = 4
    MOD_MUL = 5
    MOD_SQR = 6
    MOD_POW = 7
    MOD_INV = 8

    @property
    def word(self) -> str:
        return self.name.lower().replace("_", "-")


UNARY = (Operation.MOD_SQR, Operation.MOD_INV)


@dataclass(frozen=True, slots=True)
class BignumCall:
    """bits: width of every number.  b: as many as a; not looked at by unary operations."""

    operation: Operation
    bits: int
    modulus: int
    a: Sequence[int]
    b: Sequence[int]


@dataclass(frozen=True, slots=True)
class Bignums:
    """Results of `bits` each, in order."""

    bits: int
    values: Sequence[int]


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
        a = [read_number(item, "a", bits) for item in read_list(arguments[3], "numbers in hex")]
        if len(arguments) == 5:
            b = [read_number(item, "b", bits) for item in read_list(arguments[4], "numbers in hex")]
        elif operation in UNARY:
            b = [0] * len(a)
        else:
            raise BadArgument(f"{operation.word}: expected a list of second operands as well")
        if len(b) != len(a):
            raise BadArgument(f"expected as many second operands as first, got {len(b)} and {len(a)}")
        return BignumCall(operation, bits, modulus, a, b)

    def write_text(self, result: Bignums) -> Datum:
        digits = result.bits // 4
        return [format(value, f"0{digits}x") for value in result.values]

    def measure(self, limit_bytes: int) -> HeadMeasure:
        def body(fields: tuple[int, ...]) -> Body:
            operation, bits, count = fields
            _operation(operation)
            _check_bits(bits)
            check_reply(REPLY_HEAD.size + count * bits // 8, limit_bytes)
            return Body(length=(1 + 2 * count) * bits // 8)

        return HeadMeasure(HEAD, body, limit_bytes)

    def read_frame(self, frame: bytes) -> BignumCall:
        _, number, bits, count = HEAD.unpack_from(frame)
        operation = _operation(number)
        _check_bits(bits)
        width = bits // 8
        values = [
            int.from_bytes(frame[start : start + width], "little")
            for start in range(HEAD.size, HEAD.size + (1 + 2 * count) * width, width)
        ]
        _check_modulus(operation, values[0])
        return BignumCall(operation, bits, values[0], values[1 : count + 1], values[count + 1 :])

    def write_frame(self, result: Bignums) -> bytes:
        width = result.bits // 8
        rows = b"".join([value.to_bytes(width, "little") for value in result.values])
        return REPLY_HEAD.pack(self.reply_magic, len(result.values), result.bits) + rows

    def reply_bytes(self, call: BignumCall) -> int:
        return REPLY_HEAD.size + len(call.a) * call.bits // 8

    def work(self, call: BignumCall) -> float:
        """Products of 32-bit words, roughly."""
        words = call.bits // 32
        match call.operation:
            case Operation.ADD | Operation.SUB | Operation.MOD_ADD | Operation.MOD_SUB:
                each = words
            case Operation.MUL | Operation.MOD_MUL | Operation.MOD_SQR:
                each = words * words
            case Operation.MOD_POW | Operation.MOD_INV:
                each = words * words * call.bits
        return float(len(call.a) * each)

    def reference(self, call: BignumCall) -> Bignums:
        compute = _TABLE[call.operation]
        mask = (1 << call.bits) - 1
        modulus = call.modulus
        values = [compute(a, b, modulus) & mask for a, b in zip(call.a, call.b, strict=True)]
        return Bignums(call.bits, values)


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
