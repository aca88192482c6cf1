"""Load a QECCOPS circuit: every operation checked, the layout derived, the seed taken, nothing run yet."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forms.circuits.failures import BadCircuit, CircuitTooLarge
from forms.circuits.framing import RECORD_BYTES, read_records
from forms.circuits.kinds import NONE, RANDOM, RULES, TOFFOLI, Kind, Operand, Operation, fault
from forms.circuits.xof import Seed, SeedVersion

# An operand that is not there, in a column.
BLANK = 2**32 - 1

_RECORD = np.dtype([("kind", "<u4"), ("padding", "<u4"), *((name, "<u8") for name in Operation._fields[1:])])
_QUBITS = ("q_control2", "q_control1", "q_target")
_BITS = ("c_target", "c_condition")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a node takes. The public evaluator has no limit on ids and dies of one of 2**64 − 2."""

    operations: int = 2**25
    qubits: int = 2**24
    bits: int = 2**24
    registers: int = 2**16


@dataclass(frozen=True, slots=True)
class Register:
    """Wires by their order of appending, the least significant first; a wire may occur twice.

    wires: (width,) ids of qubits or of bits.  is_bit: (width,) which of the two.
    """

    wires: NDArray[np.uint32]
    is_bit: NDArray[np.bool_]

    @property
    def width(self) -> int:
        """The number of wires."""
        return len(self.wires)


@dataclass(frozen=True, slots=True)
class Columns:
    """The operations that a simulation looks at, as (n,) columns; BLANK where an operand is not set."""

    kind: NDArray[np.uint8]
    q_control2: NDArray[np.uint32]
    q_control1: NDArray[np.uint32]
    q_target: NDArray[np.uint32]
    c_target: NDArray[np.uint32]
    c_condition: NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class Circuit:
    """A loaded circuit. operations, qubits, bits: counts; the last two are the highest id + 1, as the score has it."""

    operations: int
    qubits: int
    bits: int
    registers: tuple[Register, ...]
    columns: Columns
    seed: Seed

    @cached_property
    def histogram(self) -> dict[Kind, int]:
        """How many operations there are of each kind that the simulation sees."""
        counts = np.bincount(self.columns.kind, minlength=len(Kind))
        return {kind: int(counts[kind]) for kind in Kind}

    @property
    def words_per_batch(self) -> int:
        """Random words that one batch takes: one for each R and HMR."""
        return sum(self.histogram[kind] for kind in RANDOM)

    @property
    def static_toffoli(self) -> int:
        """CCX and CCZ, conditions left aside."""
        return sum(self.histogram[kind] for kind in TOFFOLI)


def load_circuit(
    source: bytes | Path, limits: Limits | None = None, seed_version: SeedVersion = SeedVersion.V2
) -> Circuit:
    """Read and check a circuit, from its bytes or from a file.

    Both framings, and a raw file under zstd. Raises BadCircuit (with the index of the first operation at fault)
    for what the public evaluator refuses too, CircuitTooLarge beyond `limits`.
    """
    limits = limits or Limits()
    if isinstance(source, bytes):
        return _load(*read_records(io.BytesIO(source), limits.operations), limits, seed_version)
    with source.open("rb") as file:
        return _load(*read_records(file, limits.operations), limits, seed_version)


def _load(count: int, blocks: Iterator[bytes], limits: Limits, seed_version: SeedVersion) -> Circuit:
    seed, layout = Seed(count, seed_version), _Layout(limits)
    pieces: list[Columns] = []
    first = 0
    for block in blocks:
        raw = np.frombuffer(block, np.uint8).reshape(-1, RECORD_BYTES)
        records = raw.view(_RECORD).reshape(-1)
        _check(records, first)
        layout.take(records, first)
        seed.absorb(raw)
        pieces.append(_columns(records))
        first += len(records)
    return Circuit(count, layout.qubits, layout.bits, layout.registers(), _joined(pieces), seed)


_REQUIRED = np.array([RULES[kind].required for kind in Kind], np.uint8)
_ALLOWED = np.array([RULES[kind].allowed for kind in Kind], np.uint8)


def _check(records: NDArray[np.void], first: int) -> None:
    """Find operations that may be at fault, all at once, and let the rules say which is the first and why."""
    for index in np.flatnonzero(_suspect(records)):
        operation = Operation(*(int(records[name][index]) for name in Operation._fields))
        if (message := fault(operation)) is not None:
            raise BadCircuit(message, operation=first + int(index))


def _suspect(records: NDArray[np.void]) -> NDArray[np.bool_]:
    kind = np.minimum(records["kind"], len(Kind)).astype(np.uint8)
    unknown = kind == len(Kind)
    kind[unknown] = 0
    present = np.zeros(len(records), np.uint8)
    for operand in Operand:
        present |= (records[str(operand.name).lower()] != NONE).view(np.uint8) * np.uint8(operand)
    target, control1, control2 = (records[name] for name in ("q_target", "q_control1", "q_control2"))
    has_control = (present & np.uint8(Operand.Q_CONTROL1 | Operand.Q_CONTROL2)) != 0
    alias = has_control & ((target == control1) | (target == control2) | (control1 == control2))
    missing = (present & _REQUIRED[kind]) != _REQUIRED[kind]
    banned = (present & ~_ALLOWED[kind]) != 0
    appends = kind == Kind.APPEND_TO_REGISTER
    result: NDArray[np.bool_] = unknown | alias | missing | banned | appends
    return result


def _columns(records: NDArray[np.void]) -> Columns:
    # NONE becomes BLANK by losing its upper half; every other id is below its limit by now.
    names = ("q_control2", "q_control1", "q_target", "c_target", "c_condition")
    return Columns(records["kind"].astype(np.uint8), *(records[name].astype(np.uint32) for name in names))


def _joined(pieces: list[Columns]) -> Columns:
    if not pieces:
        return _columns(np.empty(0, _RECORD))
    return Columns(*(np.concatenate([getattr(piece, name) for piece in pieces]) for name in Columns.__slots__))


@dataclass(slots=True)
class _Layout:
    """The highest ids and the registers, from every operation of any kind."""

    limits: Limits
    qubits: int = 0
    bits: int = 0
    _register_count: int = 0
    # Of every APPEND_TO_REGISTER: the register, the wire, and 1 where that is a bit.
    _appended: list[NDArray[np.uint32]] = field(default_factory=list)

    def take(self, records: NDArray[np.void], first: int) -> None:
        self.qubits = max(self.qubits, _top(records, _QUBITS, self.limits.qubits, first, "qubits"))
        self.bits = max(self.bits, _top(records, _BITS, self.limits.bits, first, "bits"))
        registers = _top(records, ("r_target",), self.limits.registers, first, "registers")
        self._register_count = max(self._register_count, registers)
        appends = records[records["kind"] == Kind.APPEND_TO_REGISTER]
        is_bit = appends["q_target"] == NONE
        wire = np.where(is_bit, appends["c_target"], appends["q_target"])
        self._appended.append(np.array([appends["r_target"], wire, is_bit], np.uint32))

    def registers(self) -> tuple[Register, ...]:
        owner, wires, is_bit = np.concatenate([np.empty((3, 0), np.uint32), *self._appended], axis=1)
        order = np.argsort(owner, kind="stable")
        ends = np.searchsorted(owner[order], np.arange(1, self._register_count))
        pairs = zip(np.split(wires[order], ends), np.split(is_bit[order] != 0, ends), strict=True)
        return tuple(Register(*pair) for pair in pairs)[: self._register_count]


def _top(records: NDArray[np.void], names: tuple[str, ...], limit: int, first: int, what: str) -> int:
    """1 + the highest id under `names`; NONE + 1 wraps to 0, which is just what it counts for."""
    top = 0
    for name in names:
        counts = records[name] + np.uint64(1)
        highest = int(counts.max(initial=0))
        if highest > limit:
            at = first + int(np.argmax(counts > limit))
            raise CircuitTooLarge(f"{name} {highest - 1}: this node takes {limit} {what}", operation=at)
        top = max(top, highest)
    return top
