"""The eighteen kinds of operations of a QECCOPS circuit, and which operands each must, may and must not have."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import NamedTuple

# An operand that is not there.
NONE = 2**64 - 1


class Kind(IntEnum):
    """What an operation does, by its number in the file."""

    NEG = 0
    REGISTER = 1
    APPEND_TO_REGISTER = 2
    BIT_INVERT = 3
    BIT_STORE0 = 4
    BIT_STORE1 = 5
    X = 6
    Z = 7
    CX = 8
    CZ = 9
    SWAP = 10
    R = 11
    HMR = 12
    CCX = 13
    CCZ = 14
    PUSH_CONDITION = 15
    POP_CONDITION = 16
    DEBUG_PRINT = 17


class Operand(IntFlag):
    """A set of operands. The order is the one in which the public evaluator checks them."""

    C_CONDITION = 1
    Q_TARGET = 2
    Q_CONTROL1 = 4
    Q_CONTROL2 = 8
    C_TARGET = 16
    R_TARGET = 32


class Operation(NamedTuple):
    """One operation as it stands in a file: ids of qubits, classical bits and a register, or NONE."""

    kind: int
    q_control2: int = NONE
    q_control1: int = NONE
    q_target: int = NONE
    c_target: int = NONE
    c_condition: int = NONE
    r_target: int = NONE


class Rule(NamedTuple):
    """Operands that must be set and those that may be; all others must not."""

    required: Operand
    allowed: Operand


_NOTHING = Operand(0)


def _rule(required: Operand = _NOTHING, optional: Operand = _NOTHING) -> Rule:
    return Rule(required, required | optional)


_TARGET, _CONDITION, _BIT = Operand.Q_TARGET, Operand.C_CONDITION, Operand.C_TARGET
_PAIR = Operand.Q_CONTROL1 | Operand.Q_TARGET
_TRIPLE = Operand.Q_CONTROL2 | _PAIR

RULES: dict[Kind, Rule] = {
    Kind.NEG: _rule(optional=_CONDITION),
    Kind.REGISTER: _rule(Operand.R_TARGET),
    # Exactly one of the two targets, which is asked for separately.
    Kind.APPEND_TO_REGISTER: _rule(Operand.R_TARGET, _TARGET | _BIT),
    Kind.BIT_INVERT: _rule(_BIT, _CONDITION),
    Kind.BIT_STORE0: _rule(_BIT, _CONDITION),
    Kind.BIT_STORE1: _rule(_BIT, _CONDITION),
    Kind.X: _rule(_TARGET, _CONDITION),
    Kind.Z: _rule(_TARGET, _CONDITION),
    Kind.CX: _rule(_PAIR, _CONDITION),
    Kind.CZ: _rule(_PAIR, _CONDITION),
    Kind.SWAP: _rule(_PAIR, _CONDITION),
    # The evaluator's comment bans a condition on these two; its code takes one.
    Kind.R: _rule(_TARGET, _CONDITION),
    Kind.HMR: _rule(_TARGET | _BIT, _CONDITION),
    Kind.CCX: _rule(_TRIPLE, _CONDITION),
    Kind.CCZ: _rule(_TRIPLE, _CONDITION),
    Kind.PUSH_CONDITION: _rule(_CONDITION),
    Kind.POP_CONDITION: _rule(),
    Kind.DEBUG_PRINT: _rule(optional=Operand(63)),
}

TOFFOLI = frozenset({Kind.CCX, Kind.CCZ})
CLIFFORD = frozenset({Kind.CX, Kind.CZ, Kind.SWAP, Kind.R, Kind.HMR})
# These take one random word each, whatever their condition.
RANDOM = frozenset({Kind.R, Kind.HMR})


def fault(operation: Operation) -> str | None:
    """Say what is wrong with `operation`, by the first rule it breaks; None for nothing."""
    if operation.kind not in RULES:
        return f"kind {operation.kind} is none of 0 … {max(Kind)}"
    kind = Kind(operation.kind)
    alias = _alias(operation)
    if alias or kind is Kind.DEBUG_PRINT:
        return f"kind={kind.name} and {alias}" if alias else None
    if kind is Kind.APPEND_TO_REGISTER and (operation.q_target == NONE) == (operation.c_target == NONE):
        return f"kind={kind.name} needs exactly one of q_target and c_target"
    return _operand_fault(kind, operation)


def _alias(operation: Operation) -> str | None:
    pairs = (("q_target", "q_control1"), ("q_target", "q_control2"), ("q_control1", "q_control2"))
    for one, other in pairs:
        wire: int = getattr(operation, one)
        if wire != NONE and wire == getattr(operation, other):
            return f"{one} == {other} == q{wire}"
    return None


def _operand_fault(kind: Kind, operation: Operation) -> str | None:
    rule = RULES[kind]
    for operand in Operand:
        name = str(operand.name).lower()
        is_set = getattr(operation, name) != NONE
        if is_set and operand not in rule.allowed:
            return f"kind={kind.name} but {name} is set"
        if not is_set and operand in rule.required:
            return f"kind={kind.name} but {name} is not set"
    return None
