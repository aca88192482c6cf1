"""Two ways to an inverse modulo a prime: look it up, or raise to the power of the prime less two (Fermat)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from forms.circuits.generator.builder import Builder, Wires
from forms.circuits.generator.modular import Modular


class Inversion(StrEnum):
    """How inverses are found."""

    LOOKUP = "lookup"
    FERMAT = "fermat"


@contextmanager
def inverted(field: Modular, inversion: Inversion, x: Wires) -> Iterator[Wires]:
    """Lend 1/x, of an x that is not 0. x must be the same again at the end."""
    match inversion:
        case Inversion.LOOKUP:
            with field.builder.working(field.width) as inverse:
                table = [pow(value, -1, field.prime) if value else 0 for value in range(field.prime)]
                look_up(field.builder, x, table, inverse)
                yield inverse
                look_up(field.builder, x, table, inverse)
        case Inversion.FERMAT:
            with _power(field, x, field.prime - 2) as inverse:
                yield inverse


def look_up(builder: Builder, x: Wires, table: list[int], target: Wires) -> None:
    """Flip `target` by table[x], 0 beyond its end: one AND for each inner node of the tree of x's values (QROM)."""
    with builder.working(1) as (whole,):
        builder.x(whole)
        _branch(builder, x, table, target, whole)
        builder.x(whole)


def _branch(builder: Builder, x: Wires, table: list[int], target: Wires, here: int) -> None:
    if not any(table):
        return
    if not x:
        for place, wire in enumerate(target):
            if table[0] >> place & 1:
                builder.cx(here, wire)
        return
    *lower, top = x
    half = 2 ** len(lower)
    with builder.working(1) as (side,):
        builder.ccx(here, top, side)
        _branch(builder, lower, table[half:], target, side)
        builder.cx(here, side)
        _branch(builder, lower, table[:half], target, side)
        builder.cx(here, side)
        builder.undo_and(here, top, side)


@contextmanager
def _power(field: Modular, x: Wires, exponent: int) -> Iterator[Wires]:
    """Lend x to a fixed power of at least 1: square, and multiply where the exponent has ones; each step is kept."""
    steps: list[tuple[bool, Wires, Wires]] = []
    value: Wires = x
    for digit in bin(exponent)[3:]:
        for is_square in (True, False)[: 1 + int(digit)]:
            target: Wires = field.builder.qubits(field.width)
            steps.append((is_square, value, target))
            if is_square:
                field.add_square(value, target)
            else:
                field.add_product(value, x, target)
            value = target
    yield value
    for is_square, source, target in reversed(steps):
        if is_square:
            field.subtract_square(source, target)
        else:
            field.subtract_product(source, x, target)
        field.builder.give_back(target)
