"""Write a circuit operation by operation, with working qubits that are lent and given back."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from forms.circuits.framing import MAGIC_RAW
from forms.circuits.kinds import NONE, Kind

Wires = Sequence[int]

_RECORD = struct.Struct("<II6Q")


class Builder:
    """A circuit in the making. `measures`: ANDs are undone by measurement (Gidney 2018, arXiv:1709.06648)."""

    def __init__(self, measures: bool) -> None:
        self._records = bytearray()
        self._count = 0
        self._qubits = 0
        self._bits = 0
        self._registers = 0
        self._free: list[int] = []
        self._measures = measures

    def _emit(self, kind: Kind, control2: int = NONE, control1: int = NONE, target: int = NONE, **rest: int) -> None:
        bit, condition, register = (rest.get(name, NONE) for name in ("bit", "condition", "register"))
        self._records += _RECORD.pack(kind, 0, control2, control1, target, bit, condition, register)
        self._count += 1

    def file(self) -> bytes:
        """The circuit so far as a QECCOPS1 file."""
        return MAGIC_RAW + self._count.to_bytes(8, "little") + bytes(self._records)

    def qubits(self, width: int) -> list[int]:
        """New qubits, in no register yet, or those that were given back."""
        while len(self._free) < width:
            self._free.append(self._qubits)
            self._qubits += 1
        return [self._free.pop() for _ in range(width)]

    def bits(self, width: int) -> list[int]:
        """New classical bits."""
        self._bits += width
        return list(range(self._bits - width, self._bits))

    def give_back(self, wires: Iterable[int]) -> None:
        """Take back qubits that are 0 again."""
        self._free += wires

    @contextmanager
    def working(self, width: int) -> Iterator[list[int]]:
        """Lend qubits that are 0 and must be 0 again at the end."""
        wires = self.qubits(width)
        yield wires
        self.give_back(wires)

    def register(self, wires: Wires, *, of_bits: bool = False) -> None:
        """Name the next register, the least significant wire first."""
        self._emit(Kind.REGISTER, register=self._registers)
        for wire in wires:
            if of_bits:
                self._emit(Kind.APPEND_TO_REGISTER, bit=wire, register=self._registers)
            else:
                self._emit(Kind.APPEND_TO_REGISTER, target=wire, register=self._registers)
        self._registers += 1

    def x(self, target: int, condition: int = NONE) -> None:
        """Flip, where the bit `condition` is set."""
        self._emit(Kind.X, target=target, condition=condition)

    def cx(self, control: int, target: int) -> None:
        """Flip `target` where `control` is set."""
        self._emit(Kind.CX, control1=control, target=target)

    def swap(self, one: int, other: int) -> None:
        """Exchange two qubits."""
        self._emit(Kind.SWAP, control1=one, target=other)

    def flip(self, wires: Wires) -> None:
        """Complement every wire."""
        for wire in wires:
            self.x(wire)

    def ccx(self, one: int, other: int, target: int) -> None:
        """Flip `target` where both are set."""
        self._emit(Kind.CCX, one, other, target)

    def copy(self, source: Wires, target: Wires) -> None:
        """Add `source` to `target` bit by bit, without carries; twice is nothing."""
        for one, other in zip(source, target, strict=True):
            self.cx(one, other)

    def write(self, value: int, target: Wires) -> None:
        """Flip the wires of `target` at which `value` has ones."""
        for place, wire in enumerate(target):
            if value >> place & 1:
                self.x(wire)

    def undo_and(self, one: int, other: int, target: int) -> None:
        """Take `target` from (one AND other) back to 0: by a Toffoli, or by measuring it and mending the phase."""
        if not self._measures:
            self.ccx(one, other, target)
            return
        (bit,) = self.bits(1)
        self._emit(Kind.HMR, target=target, bit=bit)
        self._emit(Kind.CZ, control1=one, target=other, condition=bit)
