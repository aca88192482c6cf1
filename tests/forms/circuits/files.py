"""Circuits for these tests: those with known answers, and ones made here.

`golden.zip` holds what the public evaluator's own simulator was run on, with what it said: toys that fail the
arithmetic on purpose and use every kind, and files that it refuses.
"""

from __future__ import annotations

import json
import os
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

from forms.circuits.circuit import Circuit, load_circuit
from forms.circuits.framing import MAGIC_RAW
from forms.circuits.kinds import RULES, Kind, Operand, Operation

_FOLDER = Path(__file__).parent
_QUBITS, _BITS = 6, 24


def golden_bytes(name: str) -> bytes:
    """One of the golden files."""
    with zipfile.ZipFile(_FOLDER / "golden.zip") as archive:
        return archive.read(name)


def golden(name: str) -> Any:
    """One of the golden JSON files."""
    return json.loads(golden_bytes(name))


def stock_file() -> Path | None:
    """The stock circuit's file, where this machine has it."""
    beside = Path(__file__).parents[4] / "shared" / "data" / "circuits"
    path = Path(os.environ.get("MESHD_CIRCUITS", beside)) / "stock.ops.zst"
    return path if path.exists() else None


def records(operations: list[Operation], padding: int = 0) -> bytes:
    """The operations as they stand in a file."""
    return b"".join(struct.pack("<II6Q", operation[0], padding, *operation[1:]) for operation in operations)


def raw_file(operations: list[Operation], padding: int = 0) -> bytes:
    """A whole QECCOPS1 file."""
    return MAGIC_RAW + struct.pack("<Q", len(operations)) + records(operations, padding)


def loaded(*operations: Operation) -> Circuit:
    """The circuit of these operations."""
    return load_circuit(raw_file(list(operations)))


def random_operations(seed: int, length: int = 300) -> list[Operation]:
    """A valid list of all kinds over few wires, with conditions, nested or not, at every second place."""
    dice = random.Random(seed)
    kinds = [kind for kind in Kind if kind is not Kind.APPEND_TO_REGISTER]
    return [_random_operation(dice, dice.choice(kinds)) for _ in range(length)]


def _random_operation(dice: random.Random, kind: Kind) -> Operation:
    wires = dict(zip(("q_target", "q_control1", "q_control2"), dice.sample(range(_QUBITS), 3), strict=True))
    values = {**wires, "c_target": dice.randrange(_BITS), "c_condition": dice.randrange(_BITS), "r_target": 0}
    rule = RULES[kind]
    wanted = [
        str(operand.name).lower()
        for operand in Operand
        if operand in rule.required or (operand in rule.allowed and dice.random() < 0.4)
    ]
    return Operation(kind, **{name: values[name] for name in wanted})
