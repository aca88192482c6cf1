"""Arithmetic modulo an odd prime on registers of qubits, out of one adder. Values stay below the prime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from forms.circuits.generator.adders import Adder
from forms.circuits.generator.builder import Builder, Wires


class Multiplication(StrEnum):
    """How partial products come together: double the factor each time, or (Horner) the sum."""

    DOUBLING = "doubling"
    HORNER = "horner"


@dataclass(frozen=True, slots=True)
class Modular:
    """Modulo `prime`, in registers of `width` qubits."""

    builder: Builder
    adder: Adder
    multiplication: Multiplication
    prime: int
    width: int

    def add(self, a: Wires, b: Wires) -> None:
        """b += a."""
        with self.builder.working(3) as (high_a, high_b, was_below):
            wide_a, wide_b = [*a, high_a], [*b, high_b]
            self.adder(self.builder, wide_a, wide_b)
            self._reduce(wide_b, was_below)
            # The sum stayed below the prime exactly if it is not below a.
            self._subtract(wide_a, wide_b)
            self.builder.x(high_b)
            self.builder.cx(high_b, was_below)
            self.builder.x(high_b)
            self.adder(self.builder, wide_a, wide_b)

    def _reduce(self, wide: Wires, was_below: int) -> None:
        """Take the prime off a value below twice of it, unless it is below the prime already; say so in `was_below`."""
        with self._constant(self.prime, len(wide)) as prime:
            self._subtract(prime, wide)
        self.builder.cx(wide[-1], was_below)
        with self._prime_where(was_below) as prime_or_0:
            self.adder(self.builder, prime_or_0, wide)

    def _subtract(self, a: Wires, b: Wires) -> None:
        """b −= a modulo 2**n, which is the complement of (the complement of b) + a."""
        self.builder.flip(b)
        self.adder(self.builder, a, b)
        self.builder.flip(b)

    @contextmanager
    def _constant(self, value: int, width: int) -> Iterator[Wires]:
        with self.builder.working(width) as wires:
            self.builder.write(value, wires)
            yield wires
            self.builder.write(value, wires)

    @contextmanager
    def _prime_where(self, control: int) -> Iterator[Wires]:
        with self.builder.working(self.width + 1) as wires:
            ones = [wire for place, wire in enumerate(wires) if self.prime >> place & 1]
            for wire in ones:
                self.builder.cx(control, wire)
            yield wires
            for wire in ones:
                self.builder.cx(control, wire)

    def _mirror(self, b: Wires) -> None:
        """b := prime − 1 − b, its own inverse."""
        self.builder.flip(b)
        with self._constant(self.prime, self.width) as prime:
            self.adder(self.builder, prime, b)

    def subtract(self, a: Wires, b: Wires) -> None:
        """b −= a, by adding to what is left up to prime − 1."""
        self._mirror(b)
        self.add(a, b)
        self._mirror(b)

    def negate(self, b: Wires) -> None:
        """b := −b."""
        self._mirror(b)
        with self._constant(1, self.width) as one:
            self.add(one, b)

    def _double(self, b: Wires) -> None:
        """b := 2·b."""
        with self.builder.working(2) as (high, was_below):
            wide = [*b, high]
            for i in reversed(range(self.width)):
                self.builder.swap(wide[i], wide[i + 1])
            self._reduce(wide, was_below)
            # A doubled value is even; less the odd prime it is odd.
            self.builder.x(was_below)
            self.builder.cx(b[0], was_below)

    def _halve(self, b: Wires) -> None:
        """b := b / 2, with the prime added first where b is odd."""
        with self.builder.working(2) as (high, was_odd):
            wide = [*b, high]
            self.builder.cx(b[0], was_odd)
            with self._prime_where(was_odd) as prime_or_0:
                self.adder(self.builder, prime_or_0, wide)
            for i in range(self.width):
                self.builder.swap(wide[i], wide[i + 1])
            # Halves of odd values, and only those, reach (prime + 1) / 2.
            with self._constant((self.prime + 1) // 2, len(wide)) as middle:
                self._subtract(middle, wide)
                self.builder.x(high)
                self.builder.cx(high, was_odd)
                self.builder.x(high)
                self.adder(self.builder, middle, wide)

    @contextmanager
    def _where(self, control: int, x: Wires) -> Iterator[Wires]:
        """x where `control` is set, else 0."""
        with self.builder.working(self.width) as wires:
            for source, target in zip(x, wires, strict=True):
                self.builder.ccx(control, source, target)
            yield wires
            for source, target in zip(x, wires, strict=True):
                self.builder.undo_and(control, source, target)

    def add_product(self, x: Wires, y: Wires, z: Wires) -> None:
        """z += x·y. No wire may be in two of them: for a square, multiply with a copy."""
        match self.multiplication:
            case Multiplication.DOUBLING:
                self._add_by_doubling(x, y, z)
            case Multiplication.HORNER:
                self._add_by_horner(x, y, z)

    def subtract_product(self, x: Wires, y: Wires, z: Wires) -> None:
        """z −= x·y."""
        self._mirror(z)
        self.add_product(x, y, z)
        self._mirror(z)

    def add_square(self, x: Wires, z: Wires) -> None:
        """z += x²."""
        with self.builder.working(self.width) as twin:
            self.builder.copy(x, twin)
            self.add_product(x, twin, z)
            self.builder.copy(x, twin)

    def subtract_square(self, x: Wires, z: Wires) -> None:
        """z −= x²."""
        self._mirror(z)
        self.add_square(x, z)
        self._mirror(z)

    def _add_by_doubling(self, x: Wires, y: Wires, z: Wires) -> None:
        """Add x, 2x, 4x … where y has ones; x is halved back at the end."""
        for place, control in enumerate(y):
            if place:
                self._double(x)
            with self._where(control, x) as term:
                self.add(term, z)
        for _ in y[1:]:
            self._halve(x)

    def _add_by_horner(self, x: Wires, y: Wires, z: Wires) -> None:
        """Make the product apart, from the top of y downwards, add it, and unmake it."""
        with self.builder.working(self.width) as product:
            for place in reversed(range(len(y))):
                with self._where(y[place], x) as term:
                    self.add(term, product)
                if place:
                    self._double(product)
            self.add(product, z)
            for place in range(len(y)):
                if place:
                    self._halve(product)
                with self._where(y[place], x) as term:
                    self.subtract(term, product)
