"""Circuits made here are correct by simulation, whichever algorithm, and a wrong one is caught."""

from __future__ import annotations

import struct

import pytest

from forms.circuits.checks import Cases
from forms.circuits.circuit import Circuit, load_circuit
from forms.circuits.failures import BadCircuit
from forms.circuits.framing import RECORD_BYTES
from forms.circuits.generator.adders import Addition
from forms.circuits.generator.builder import Builder
from forms.circuits.generator.generate import Algorithm, Arithmetic, algorithms, generate
from forms.circuits.generator.inversion import Inversion, look_up
from forms.circuits.generator.modular import Multiplication
from forms.circuits.kinds import Kind
from forms.circuits.lanes import to_lanes
from forms.circuits.simulation import Options, Result, simulate
from forms.circuits.toy_checks import CHECKS, field_prime, toy_curve
from forms.circuits.xof import Stream


def judged(file: bytes, arithmetic: Arithmetic, attempts: int = 192) -> Result:
    # The reference: the circuits are small, and nothing has to be compiled.
    options = Options(attempts=attempts, check=CHECKS[arithmetic], backend="reference")
    return simulate(load_circuit(file), options)


@pytest.mark.parametrize("width", [5, 8])
@pytest.mark.parametrize(
    ("arithmetic", "algorithm"),
    [
        (arithmetic, algorithm)
        for arithmetic in Arithmetic
        if arithmetic is not Arithmetic.POINT_ADDITION
        for algorithm in algorithms(arithmetic)
    ],
)
def test_arithmetic_is_correct(arithmetic: Arithmetic, algorithm: Algorithm, width: int) -> None:
    result = judged(generate(arithmetic, width, algorithm), arithmetic)
    assert (result.reason, result.shots) == ("", 192)


@pytest.mark.parametrize("algorithm", algorithms(Arithmetic.POINT_ADDITION))
def test_point_additions_are_correct(algorithm: Algorithm) -> None:
    result = judged(generate(Arithmetic.POINT_ADDITION, 5, algorithm), Arithmetic.POINT_ADDITION, attempts=64)
    assert result.reason == ""
    assert 32 < result.shots <= 64


class EveryPair:
    """Both inputs of an adder modulo 31, all 961 pairs."""

    def require(self, circuit: Circuit) -> None:
        assert circuit.registers[0].width == 5

    def cases(self, circuit: Circuit, stream: Stream, attempts: int) -> Cases:
        pairs = [(a, b) for a in range(31) for b in range(31)]
        a, b = to_lanes([a for a, _ in pairs], 5), to_lanes([b for _, b in pairs], 5)
        return Cases(len(pairs), {0: a, 1: b}, {0: a, 1: to_lanes([(x + y) % 31 for x, y in pairs], 5)})


@pytest.mark.parametrize("addition", Addition)
def test_every_pair_of_a_small_modular_adder(addition: Addition) -> None:
    circuit = load_circuit(generate(Arithmetic.MODULAR_ADDER, 5, Algorithm(addition)))
    assert simulate(circuit, Options(check=EveryPair(), backend="reference")).clean


def test_toffolis_are_those_of_the_papers() -> None:
    counts = {
        addition: load_circuit(generate(Arithmetic.ADDER, 9, Algorithm(addition))).static_toffoli
        for addition in Addition
    }
    assert counts == {Addition.CUCCARO: 16, Addition.GIDNEY: 8, Addition.VBE: 32}


def test_algorithms_of_one_arithmetic_are_different_circuits() -> None:
    files = [
        generate(Arithmetic.MODULAR_MULTIPLIER, 6, algorithm) for algorithm in algorithms(Arithmetic.MODULAR_MULTIPLIER)
    ]
    assert len(set(files)) == len(files) == len(Addition) * len(Multiplication)
    assert len(algorithms(Arithmetic.POINT_ADDITION)) == len(files) * len(Inversion)


@pytest.mark.parametrize(("kind", "reason"), [(Kind.CCX, "MISMATCH|GARBAGE"), (Kind.CZ, "PHASE GARBAGE")])
def test_a_circuit_without_one_of_its_operations_is_not_clean(kind: Kind, reason: str) -> None:
    file = generate(Arithmetic.MODULAR_ADDER, 6, Algorithm(Addition.GIDNEY))
    starts = range(16, len(file), RECORD_BYTES)
    start = next(start for start in starts if struct.unpack_from("<I", file, start) == (kind,))
    count = int.from_bytes(file[8:16], "little") - 1
    broken = file[:8] + count.to_bytes(8, "little") + file[16:start] + file[start + RECORD_BYTES :]
    result = judged(broken, Arithmetic.MODULAR_ADDER)
    assert not result.clean
    assert any(part in result.reason for part in reason.split("|"))


def test_a_look_up_gives_its_table_and_nothing_beyond_it() -> None:
    builder = Builder(measures=True)
    address, answer = builder.qubits(3), builder.qubits(4)
    builder.register(address)
    builder.register(answer)
    look_up(builder, address, [9, 0, 15, 1, 6], answer)

    class EveryAddress:
        def require(self, circuit: Circuit) -> None:
            assert circuit.registers[1].width == 4

        def cases(self, circuit: Circuit, stream: Stream, attempts: int) -> Cases:
            return Cases(8, {0: to_lanes(range(8), 3)}, {1: to_lanes([9, 0, 15, 1, 6, 0, 0, 0], 4)})

    result = simulate(load_circuit(builder.file()), Options(check=EveryAddress(), backend="reference"))
    assert result.reason == ""


@pytest.mark.parametrize("width", [4, 17])
def test_widths_outside_five_to_sixteen_are_refused(width: int) -> None:
    with pytest.raises(BadCircuit, match="5 … 16"):
        generate(Arithmetic.ADDER, width, Algorithm())


def test_fields_and_curves_are_what_the_circuits_were_made_for() -> None:
    assert [field_prime(width) for width in (5, 8, 16)] == [31, 251, 65521]
    for width in (5, 8, 12):
        curve = toy_curve(width)
        x, y = curve.base
        assert (y * y - x**3 - 7) % curve.p == 0


@pytest.mark.parametrize(("name", "file"), [("adder", Arithmetic.MODULAR_MULTIPLIER), ("toy-curve", Arithmetic.ADDER)])
def test_a_check_refuses_other_layouts(name: str, file: Arithmetic) -> None:
    circuit = load_circuit(generate(file, 5, Algorithm()))
    with pytest.raises(BadCircuit, match="registers"):
        CHECKS[name].require(circuit)
