"""Lowering: few slots for many bits, cleared where that can be seen, and nothing left that has no effect."""

from __future__ import annotations

import pytest

from forms.circuits.circuit import Circuit, load_circuit
from forms.circuits.failures import CircuitTooLarge
from forms.circuits.kernels import CLEAR, CONDITIONED
from forms.circuits.kinds import Kind, Operation
from forms.circuits.program import lower
from tests.forms.circuits.files import golden_bytes, loaded

pytest.importorskip("numba", reason="numba is not installed: the extra cpu-forms brings it")


def measured(bits: int) -> Circuit:
    """Each bit is measured, read once, and never seen again."""
    pairs = [
        (Operation(Kind.HMR, q_target=0, c_target=bit), Operation(Kind.CZ, q_control1=1, q_target=0, c_condition=bit))
        for bit in range(bits)
    ]
    return loaded(*[operation for pair in pairs for operation in pair])


def test_bits_in_use_one_after_the_other_share_one_slot() -> None:
    program = lower(measured(1000))
    # One more, always there, holds all ones.
    assert (program.slots, len(program.code[0])) == (2, 2000)
    assert CLEAR not in program.code[0]
    assert lower(measured(1000), keep_bits=True).slots == 1001


def test_a_slot_is_cleared_for_a_bit_that_is_changed_in_some_lanes_only() -> None:
    store = Operation(Kind.BIT_STORE1, c_target=0)
    some = Operation(Kind.BIT_INVERT, c_target=1)
    code = lower(loaded(store, some)).code[0]
    assert code.tolist() == [Kind.BIT_STORE1, CLEAR, Kind.BIT_INVERT]


def test_a_bit_read_before_it_is_written_is_cleared() -> None:
    code = lower(loaded(Operation(Kind.X, q_target=0, c_condition=5))).code[0]
    assert code.tolist() == [CLEAR, Kind.X + CONDITIONED]


def test_what_has_no_effect_is_left_out() -> None:
    circuit = loaded(
        Operation(Kind.REGISTER, r_target=0),
        Operation(Kind.APPEND_TO_REGISTER, q_target=0, r_target=0),
        Operation(Kind.DEBUG_PRINT, c_condition=3),
        Operation(Kind.POP_CONDITION),
        Operation(Kind.X, q_target=7),
    )
    program = lower(circuit)
    assert program.code[0].tolist() == [Kind.X]
    assert program.qubits.tolist() == [0, 7]


def test_operations_inside_a_push_are_conditioned_and_not_counted_ahead() -> None:
    cx = Operation(Kind.CX, q_control1=0, q_target=1)
    program = lower(loaded(cx, Operation(Kind.PUSH_CONDITION, c_condition=0), cx, Operation(Kind.POP_CONDITION), cx))
    assert (program.clifford, program.stack_depth) == (2, 1)
    assert program.code[0].tolist() == [8, CLEAR, 15, 8 + CONDITIONED, 16, 8]


def test_conditions_too_deep_are_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forms.circuits.program.MAX_STACK_DEPTH", 2)
    with pytest.raises(CircuitTooLarge, match="3 conditions"):
        lower(loaded(*[Operation(Kind.PUSH_CONDITION, c_condition=0)] * 3))


def test_a_real_circuits_bits_need_few_slots() -> None:
    circuit = load_circuit(golden_bytes("toy_mbu.bin"))
    assert circuit.bits == 3512
    # The registers' 512, and what is measured now.
    assert lower(circuit).slots < 600
