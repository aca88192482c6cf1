"""The circuits that can be made: `generate` writes one, and `Arithmetic.algorithms` names the ways to each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from forms.circuits.failures import BadCircuit
from forms.circuits.generator.adders import ADDERS, Addition
from forms.circuits.generator.builder import Builder, Wires
from forms.circuits.generator.inversion import Inversion, inverted
from forms.circuits.generator.modular import Modular, Multiplication
from forms.circuits.toy_checks import field_prime

# A look-up at 16 bits has 65,536 leaves, about a million operations.
SMALLEST_WIDTH, LARGEST_WIDTH = 5, 16


class Arithmetic(StrEnum):
    """What a circuit computes; the check of the same name judges it."""

    ADDER = "adder"
    MODULAR_ADDER = "modular-adder"
    MODULAR_MULTIPLIER = "modular-multiplier"
    POINT_ADDITION = "toy-curve"


# How many of an algorithm's parts matter to each.
_PARTS = {
    Arithmetic.ADDER: 1,
    Arithmetic.MODULAR_ADDER: 1,
    Arithmetic.MODULAR_MULTIPLIER: 2,
    Arithmetic.POINT_ADDITION: 3,
}


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One way to an arithmetic. Parts that it has no use for are left at their first choice."""

    addition: Addition = Addition.CUCCARO
    multiplication: Multiplication = Multiplication.DOUBLING
    inversion: Inversion = Inversion.LOOKUP

    def name_of(self, arithmetic: Arithmetic) -> str:
        """The parts that `arithmetic` has a use for, as in `cuccaro-horner`."""
        return "-".join(self.parts[: _PARTS[arithmetic]])

    @property
    def parts(self) -> tuple[StrEnum, ...]:
        """The choices, from what every arithmetic needs to what one does."""
        return self.addition, self.multiplication, self.inversion


def algorithms(arithmetic: Arithmetic) -> list[Algorithm]:
    """List every way to `arithmetic`, each with its own circuit."""
    unused = Algorithm().parts[_PARTS[arithmetic] :]
    every = (Algorithm(*parts) for parts in product(Addition, Multiplication, Inversion))
    return [algorithm for algorithm in every if algorithm.parts[_PARTS[arithmetic] :] == unused]


def generate(arithmetic: Arithmetic, width: int, algorithm: Algorithm) -> bytes:
    """Write the QECCOPS1 file of `arithmetic` on registers of `width`, 5 … 16 wires.

    Modular ones are modulo the largest prime below 2**width. Raises BadCircuit for another width.
    """
    if not SMALLEST_WIDTH <= width <= LARGEST_WIDTH:
        raise BadCircuit(f"width {width}: circuits are made for {SMALLEST_WIDTH} … {LARGEST_WIDTH}")
    builder = Builder(measures=algorithm.addition is Addition.GIDNEY)
    adder = ADDERS[algorithm.addition]
    field = Modular(builder, adder, algorithm.multiplication, field_prime(width), width)
    a, b = builder.qubits(width), builder.qubits(width)
    builder.register(a)
    builder.register(b)
    match arithmetic:
        case Arithmetic.ADDER:
            adder(builder, a, b)
        case Arithmetic.MODULAR_ADDER:
            field.add(a, b)
        case Arithmetic.MODULAR_MULTIPLIER:
            target = builder.qubits(width)
            builder.register(target)
            field.add_product(a, b, target)
        case Arithmetic.POINT_ADDITION:
            _add_point(field, algorithm.inversion, a, b)
    return builder.file()


def _add_point(field: Modular, inversion: Inversion, x: Wires, y: Wires) -> None:
    """(x, y) += the point in two registers of bits, but for equal x and a sum of the bits' own x.

    With the slope s and u = x₂ − x₃, y₃ + y₂ = s·u: so the slope is divided out of what it made.
    """
    builder = field.builder
    x2, y2 = builder.bits(field.width), builder.bits(field.width)
    builder.register(x2, of_bits=True)
    builder.register(y2, of_bits=True)
    _subtract_bits(field, x2, x)
    _subtract_bits(field, y2, y)
    with builder.working(field.width) as slope:
        with inverted(field, inversion, x) as inverse:
            field.add_product(y, inverse, slope)
        field.subtract_product(slope, x, y)
        # x − x₂ becomes x₂ − x₃, for x₃ = slope² − x − x₂.
        for _ in range(3):
            _add_bits(field, x2, x)
        field.subtract_square(slope, x)
        field.add_product(slope, x, y)
        with inverted(field, inversion, x) as inverse:
            field.subtract_product(y, inverse, slope)
    field.negate(x)
    _add_bits(field, x2, x)
    _subtract_bits(field, y2, y)


def _add_bits(field: Modular, bits: Wires, target: Wires) -> None:
    with field.builder.working(field.width) as wires:
        _load(field.builder, bits, wires)
        field.add(wires, target)
        _load(field.builder, bits, wires)


def _subtract_bits(field: Modular, bits: Wires, target: Wires) -> None:
    with field.builder.working(field.width) as wires:
        _load(field.builder, bits, wires)
        field.subtract(wires, target)
        _load(field.builder, bits, wires)


def _load(builder: Builder, bits: Wires, wires: Wires) -> None:
    for bit, wire in zip(bits, wires, strict=True):
        builder.x(wire, condition=bit)
