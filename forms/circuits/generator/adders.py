"""Three ways to add: `b += a` modulo 2**n, for two registers of one length. They differ in Toffolis and in qubits."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from forms.circuits.generator.builder import Builder, Wires

Adder = Callable[[Builder, Wires, Wires], None]


class Addition(StrEnum):
    """The adders by their authors."""

    CUCCARO = "cuccaro"
    GIDNEY = "gidney"
    VBE = "vbe"


def cuccaro(builder: Builder, a: Wires, b: Wires) -> None:
    """Carry along `a` itself: one working qubit, 2(n − 1) Toffolis (quant-ph/0410184)."""
    top = len(a) - 1
    with builder.working(1) as start:
        carries = [*start, *a]
        for i in range(top):
            builder.cx(a[i], b[i])
            builder.cx(a[i], carries[i])
            builder.ccx(carries[i], b[i], a[i])
        builder.cx(carries[top], b[top])
        builder.cx(a[top], b[top])
        for i in reversed(range(top)):
            builder.ccx(carries[i], b[i], a[i])
            builder.cx(a[i], carries[i])
            builder.cx(carries[i], b[i])


def gidney(builder: Builder, a: Wires, b: Wires) -> None:
    """Carry in qubits that are measured away: n − 1 of them, n − 1 Toffolis (arXiv:1709.06648, figure 1)."""
    top = len(a) - 1
    with builder.working(top) as carries:
        for i in range(top):
            if i:
                builder.cx(carries[i - 1], a[i])
                builder.cx(carries[i - 1], b[i])
            builder.ccx(a[i], b[i], carries[i])
            if i:
                builder.cx(carries[i - 1], carries[i])
        if top:
            builder.cx(carries[-1], b[top])
        for i in reversed(range(top)):
            if i:
                builder.cx(carries[i - 1], carries[i])
            builder.undo_and(a[i], b[i], carries[i])
            if i:
                builder.cx(carries[i - 1], a[i])
        builder.copy(a, b)


def vbe(builder: Builder, a: Wires, b: Wires) -> None:
    """Carry in a register that is computed back: n qubits, 4(n − 1) Toffolis (quant-ph/9511018)."""
    top = len(a) - 1
    with builder.working(len(a)) as carries:
        for i in range(top):
            builder.ccx(a[i], b[i], carries[i + 1])
            builder.cx(a[i], b[i])
            builder.ccx(carries[i], b[i], carries[i + 1])
        builder.cx(a[top], b[top])
        builder.cx(carries[top], b[top])
        for i in reversed(range(top)):
            builder.ccx(carries[i], b[i], carries[i + 1])
            builder.cx(a[i], b[i])
            builder.ccx(a[i], b[i], carries[i + 1])
            builder.cx(a[i], b[i])
            builder.cx(carries[i], b[i])


ADDERS: dict[Addition, Adder] = {Addition.CUCCARO: cuccaro, Addition.GIDNEY: gidney, Addition.VBE: vbe}
