"""Judges of small circuits: adders, modular adders and multipliers, and point additions on curves of 5 … 16 bits.

Modular ones are modulo `field_prime` of the registers' width, so that a file needs no parameter beside it.
Every input is eight bytes of the stream, little-endian, modulo its bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from forms.circuits.checks import SECP256K1_CHECK, Cases, Check, NoCheck
from forms.circuits.circuit import Circuit
from forms.circuits.curve import Curve
from forms.circuits.failures import BadCircuit
from forms.circuits.lanes import to_lanes
from forms.circuits.xof import Stream

_LARGEST_WIDTH = 16
_INPUT_BYTES = 8


@cache
def field_prime(width: int) -> int:
    """Find the largest prime below 2**width, for widths of 2 … 16."""
    return next(n for n in range(2**width - 1, 1, -1) if all(n % divisor for divisor in range(2, int(n**0.5) + 1)))


@cache
def toy_curve(width: int) -> Curve:
    """Give y² = x³ + 7 modulo `field_prime`, with the point of the smallest x and then y for its base."""
    p = field_prime(width)
    roots: dict[int, int] = {}
    for y in range(p):
        roots.setdefault(y * y % p, y)
    base = next((x, roots[square]) for x in range(1, p) if (square := (x**3 + 7) % p) in roots)
    return Curve(p, 0, 7, base, scalar_bits=8 * _INPUT_BYTES)


def _width(circuit: Circuit, of_bits: Sequence[bool]) -> int:
    """The width of all registers, of which there must be as many as `of_bits` has, of bits where it says so."""
    registers = circuit.registers
    if len(registers) != len(of_bits):
        raise BadCircuit(f"expected {len(of_bits)} registers, got {len(registers)}")
    width = registers[0].width
    for index, (register, wanted) in enumerate(zip(registers, of_bits, strict=True)):
        if register.width != width or not 2 <= width <= _LARGEST_WIDTH:
            raise BadCircuit(f"register {index} is {register.width} wide: expected one width of 2 … {_LARGEST_WIDTH}")
        if (register.is_bit != wanted).any():
            raise BadCircuit(f"register {index} must be {'bits' if wanted else 'qubits'}")
    return width


def _draw(stream: Stream, count: int) -> list[int]:
    drawn = stream.take(count * _INPUT_BYTES)
    starts = range(0, len(drawn), _INPUT_BYTES)
    return [int.from_bytes(drawn[start : start + _INPUT_BYTES], "little") for start in starts]


@dataclass(frozen=True, slots=True)
class ArithmeticCheck:
    """Registers of qubits: two inputs below a bound, and perhaps one that starts at 0. All are looked at in the end.

    bound: width -> the least number that is no input.  answer: (bound, a, b) -> what the last register should hold.
    """

    registers: int
    bound: Callable[[int], int]
    answer: Callable[[int, int, int], int]

    def require(self, circuit: Circuit) -> None:
        """Ask for registers of qubits of one width."""
        _width(circuit, [False] * self.registers)

    def cases(self, circuit: Circuit, stream: Stream, attempts: int) -> Cases:
        """Two inputs an attempt."""
        width = circuit.registers[0].width
        bound = self.bound(width)
        drawn = [value % bound for value in _draw(stream, 2 * attempts)]
        a, b = drawn[::2], drawn[1::2]
        answers = [self.answer(bound, *pair) for pair in zip(a, b, strict=True)]
        kept = dict(enumerate([to_lanes(a, width), to_lanes(b, width)]))
        return Cases(attempts, kept, {**kept, self.registers - 1: to_lanes(answers, width)})


@dataclass(frozen=True, slots=True)
class ToyCurveCheck:
    """The sum of two points, laid out as on secp256k1, for formulas that know no exception.

    Attempts fall away where either point is at infinity, where both have one x, and where the sum has the offset's.
    """

    def require(self, circuit: Circuit) -> None:
        """Ask for two registers of qubits and two of bits."""
        _width(circuit, [False, False, True, True])

    def cases(self, circuit: Circuit, stream: Stream, attempts: int) -> Cases:
        """Two scalars of 64 bits an attempt."""
        width = circuit.registers[0].width
        curve = toy_curve(width)
        points = curve.multiples(_draw(stream, 2 * attempts))
        sums = curve.add(points[::2], points[1::2])
        triples = [
            (target, offset, total)
            for target, offset, total in zip(points[::2], points[1::2], sums, strict=True)
            if target and offset and total and target[0] != offset[0] != total[0]
        ]
        x1, y1, x2, y2, x3, y3 = (
            to_lanes([triple[which][axis] for triple in triples], width) for which in range(3) for axis in range(2)
        )
        return Cases(len(triples), {0: x1, 1: y1, 2: x2, 3: y2}, {0: x3, 1: y3})


CHECKS: dict[str, Check] = {
    "secp256k1": SECP256K1_CHECK,
    "none": NoCheck(),
    "toy-curve": ToyCurveCheck(),
    "adder": ArithmeticCheck(2, lambda width: 2**width, lambda bound, a, b: (a + b) % bound),
    "modular-adder": ArithmeticCheck(2, field_prime, lambda bound, a, b: (a + b) % bound),
    "modular-multiplier": ArithmeticCheck(3, field_prime, lambda bound, a, b: a * b % bound),
}
