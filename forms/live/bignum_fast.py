"""Large numbers by gmpy2, which packs and unpacks whole rows of them at once; powers on all cores of a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import gmpy2
from gmpy2 import f_mod_2exp, mpz, powmod

from forms.live.bignum_call import UNARY, BignumCall, Operation
from forms.live.cores import spread
from forms.live.numbers import Numbers

CHUNK_PAIRS = 2048
"""Pairs whose numbers are unpacked at a time: they fit a cache."""
LEAST_POWERS = 8
"""Powers that are worth a thread's while."""
_BINARY_HEAD = b"\x01\x01"
"""Of gmpy2's own format: an mpz, positive; its bytes follow, least significant first."""


def compute_numbers(call: BignumCall) -> Numbers:
    """The results, in order."""
    count = len(call.a)
    if call.operation is Operation.MOD_POW:
        return Numbers(spread(lambda part: _power_rows(call, part), count, LEAST_POWERS), call.bits // 8)
    parts = (slice(start, start + CHUNK_PAIRS) for start in range(0, count, CHUNK_PAIRS))
    return Numbers(b"".join([_rows(call, part) for part in parts]), call.bits // 8)


def _rows(call: BignumCall, part: slice) -> bytes:
    a = _unpacked(call.a[part])
    b = a if call.operation in UNARY else _unpacked(call.b[part])
    return _packed(_results(call, a, b), call.bits)


def _power_rows(call: BignumCall, part: slice) -> bytes:
    # Only here: what other operations take is less than what it costs to let the interpreter go and get it back.
    with gmpy2.context(gmpy2.get_context(), allow_release_gil=True):
        return _rows(call, part)


def _results(call: BignumCall, a: Sequence[mpz], b: Sequence[mpz]) -> Sequence[mpz]:
    pairs, bits, modulus = zip(a, b, strict=True), call.bits, mpz(call.modulus)
    match call.operation:
        case Operation.ADD:
            return [f_mod_2exp(x + y, bits) for x, y in pairs]
        case Operation.SUB:
            return [f_mod_2exp(x - y, bits) for x, y in pairs]
        case Operation.MUL:
            return [f_mod_2exp(x * y, bits) for x, y in pairs]
        case Operation.MOD_ADD:
            return [(x + y) % modulus for x, y in pairs]
        case Operation.MOD_SUB:
            return [(x - y) % modulus for x, y in pairs]
        case Operation.MOD_MUL:
            return [x * y % modulus for x, y in pairs]
        case Operation.MOD_SQR:
            return [x * x % modulus for x in a]
        case Operation.MOD_POW:
            return [powmod(x, y, modulus) for x, y in pairs]
        case Operation.MOD_INV:
            return [_inverse(x, modulus) for x in a]


def _inverse(a: mpz, modulus: mpz) -> mpz:
    try:
        return gmpy2.invert(a, modulus)
    except ZeroDivisionError:
        return mpz(0)


def _unpacked(numbers: Numbers) -> Sequence[mpz]:
    values = gmpy2.unpack(gmpy2.from_binary(_BINARY_HEAD + bytes(numbers.data)), 8 * numbers.width)
    return [*values, *[mpz(0)] * (len(numbers) - len(values))]  # zeros at the end are not unpacked


def _packed(values: Sequence[mpz], bits: int) -> bytes:
    data: bytes = gmpy2.to_binary(gmpy2.pack(values, bits))
    return data[len(_BINARY_HEAD) :].ljust(len(values) * bits // 8, b"\0")
