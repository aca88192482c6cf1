"""Loading: what the public evaluator refuses is refused with the same index and cause, and the layout is its own."""

from __future__ import annotations

import random

import pytest

from forms.circuits.checks import SECP256K1_CHECK
from forms.circuits.circuit import Circuit, Limits, load_circuit
from forms.circuits.failures import BadCircuit, CircuitTooLarge
from forms.circuits.kinds import NONE, RULES, Kind, Operation, fault
from tests.forms.circuits.files import golden, golden_bytes, loaded, raw_file

X = Operation(Kind.X, q_target=0)

# What of the evaluator's words ours must say too, besides `op <index>`.
CAUSES = {
    "bad_15.bin": "too short",
    "bad_alias_t.bin": "kind=CX and q_target == q_control1",
    "bad_append_cond.bin": "c_condition is set",
    "bad_cap.bin": "op count 4000000001 exceeds cap 4000000000",
    "bad_debug_alias.bin": "kind=DEBUG_PRINT and q_target == q_control1",
    "bad_empty_ops.bin": "expected 4 registers, got 0",
    "bad_hmr_noct.bin": "kind=HMR but c_target is not set",
    "bad_magic.bin": "bad magic",
    "bad_nminus.bin": "length mismatch: got 57584 expected 57528 for 1027 ops",
    "bad_nplus.bin": "length mismatch: got 57584 expected 57640 for 1029 ops",
    "bad_push_none.bin": "kind=PUSH_CONDITION but c_condition is not set",
    "bad_short255.bin": "register 0 should be 256 wide, got 255",
    "bad_three_regs.bin": "expected 4 registers, got 3",
    "bad_two_bad.bin": "kind=X but q_target is not set",
    "bad_wrongtype.bin": "register 0 must be qubits",
    "bad_x_ct.bin": "kind=X but c_target is set",
}


def test_every_golden_bad_file_has_its_cause_here() -> None:
    assert CAUSES.keys() == golden("bad_files.json").keys()


@pytest.mark.parametrize("name", CAUSES)
def test_refused_as_by_the_public_evaluator(name: str) -> None:
    theirs = golden("bad_files.json")[name]
    with pytest.raises(BadCircuit) as failure:
        SECP256K1_CHECK.require(load_circuit(golden_bytes(name)))
    assert CAUSES[name] in str(failure.value)
    assert failure.value.operation == (1028 if "op 1028" in theirs else None)


@pytest.mark.parametrize("name", ["random", "mbu", "norand"])
def test_layout_of_the_toys(name: str) -> None:
    wanted = golden("toys.golden.json")[name]
    circuit = load_circuit(golden_bytes(f"toy_{name}.bin"))
    assert (circuit.operations, circuit.qubits, circuit.bits) == (wanted["ops"], wanted["qubits"], wanted["bits"])
    assert [register.width for register in circuit.registers] == wanted["reg_widths"]
    assert {kind.name: count for kind, count in circuit.histogram.items() if count} == wanted["kind_histogram"]


@pytest.mark.parametrize(
    ("operation", "cause"),
    [
        (Operation(18), "kind 18"),
        (Operation(2**32 - 1), "kind 4294967295"),
        (Operation(Kind.CCX, 1, 1, 2), "q_control1 == q_control2 == q1"),
        (Operation(Kind.CCX, 2, 1, 2), "q_target == q_control2 == q2"),
        (Operation(Kind.CX, q_target=1), "q_control1 is not set"),
        (Operation(Kind.X, q_target=1, c_target=0), "c_target is set"),
        (Operation(Kind.REGISTER), "r_target is not set"),
        (Operation(Kind.APPEND_TO_REGISTER, q_target=0, c_target=0, r_target=0), "exactly one"),
        (Operation(Kind.APPEND_TO_REGISTER, r_target=0), "exactly one"),
        (Operation(Kind.APPEND_TO_REGISTER, q_target=0, c_condition=0, r_target=0), "c_condition is set"),
        (Operation(Kind.POP_CONDITION, c_condition=0), "c_condition is set"),
        (Operation(Kind.NEG, q_target=0), "q_target is set"),
        # Of several faults the first by the evaluator's order.
        (Operation(Kind.NEG, q_target=0, c_target=0, r_target=0), "q_target is set"),
        (Operation(Kind.PUSH_CONDITION, q_target=0), "c_condition is not set"),
    ],
)
def test_refused_with_its_index(operation: Operation, cause: str) -> None:
    with pytest.raises(BadCircuit, match=f"^op 1: .*{cause}"):
        loaded(X, operation, operation)


@pytest.mark.parametrize(
    "operation",
    [
        Operation(Kind.HMR, q_target=0, c_target=3, c_condition=3),
        Operation(Kind.R, q_target=0, c_condition=3),
        Operation(Kind.DEBUG_PRINT),
        Operation(Kind.DEBUG_PRINT, 0, 1, 2, 3, 4, 5),
    ],
)
def test_accepted_as_by_the_public_evaluator(operation: Operation) -> None:
    assert loaded(operation).operations == 1


def test_a_debug_print_widens_everything() -> None:
    circuit = loaded(Operation(Kind.DEBUG_PRINT, 9, 1, 2, 3, 6, 5))
    assert (circuit.qubits, circuit.bits, len(circuit.registers)) == (10, 7, 6)
    assert all(register.width == 0 for register in circuit.registers)


def test_appends_count_wherever_they_stand_and_repeats_stay() -> None:
    def append(register: int, **wire: int) -> Operation:
        return Operation(Kind.APPEND_TO_REGISTER, **wire, r_target=register)

    circuit = loaded(append(2, q_target=5), X, append(0, c_target=1), append(2, q_target=4), append(2, q_target=5))
    assert [register.wires.tolist() for register in circuit.registers] == [[1], [], [5, 4, 5]]
    assert [register.is_bit.tolist() for register in circuit.registers] == [[True], [], [False, False, False]]


@pytest.mark.parametrize(
    ("operation", "what"),
    [
        (Operation(Kind.X, q_target=NONE - 1), "qubits"),
        (Operation(Kind.BIT_INVERT, c_target=2**32), "bits"),
        (Operation(Kind.X, q_target=0, c_condition=2**24), "bits"),
        (Operation(Kind.REGISTER, r_target=2**16), "registers"),
    ],
)
def test_a_huge_id_is_a_limit_with_its_operation(operation: Operation, what: str) -> None:
    with pytest.raises(CircuitTooLarge, match=f"^op 1: .*{what}"):
        loaded(X, operation)


def test_the_highest_ids_that_fit_are_taken() -> None:
    circuit = load_circuit(raw_file([Operation(Kind.CX, q_control1=8, q_target=9)]), Limits(qubits=10))
    assert circuit.qubits == 10


def test_looking_at_all_operations_at_once_finds_what_the_rules_find() -> None:
    dice = random.Random(6)
    operations = [_any_operation(dice) for _ in range(3000)]
    assert any(fault(operation) for operation in operations)
    for operation in operations:
        wanted = fault(operation)
        try:
            circuit: Circuit | None = loaded(operation)
        except BadCircuit as failure:
            assert str(failure) == f"op 0: {wanted}"
        else:
            assert wanted is None
            assert circuit is not None


def _any_operation(dice: random.Random) -> Operation:
    """Mostly nearly right: the required operands, and now and then one too many or too few."""
    kind = dice.randrange(19)
    required = RULES[Kind(kind)].required if kind < 18 else 0
    present = (bool(required & bit) != (dice.random() < 0.08) for bit in (8, 4, 2, 16, 1, 32))
    return Operation(kind, *(dice.randrange(4) if is_set else NONE for is_set in present))


def test_damaged_files_load_or_fail_in_our_words() -> None:
    dice = random.Random(11)
    whole = golden_bytes("toy_norand.bin")
    outcomes: set[type] = set()
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            damaged[dice.randrange(len(damaged))] = dice.choice([0, 1, 2, 17, 18, 0x7F, 0xFF])
        try:
            outcomes.add(type(load_circuit(bytes(damaged[: dice.choice([len(damaged), 16, len(damaged)])]))))
        except (BadCircuit, CircuitTooLarge) as failure:
            outcomes.add(type(failure))
    assert outcomes == {Circuit, BadCircuit, CircuitTooLarge}
