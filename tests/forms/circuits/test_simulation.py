"""Whole runs: every number of the public evaluator, by each backend, and what is not the evaluator's own."""

from __future__ import annotations

from typing import Any

import pytest

from forms.circuits.axis import simulate_axis
from forms.circuits.checks import SECP256K1_CHECK, Cases, NoCheck
from forms.circuits.circuit import Circuit, load_circuit
from forms.circuits.kinds import Kind, Operation
from forms.circuits.on_device import simulate_on_device
from forms.circuits.report import as_json
from forms.circuits.runners import NumbaRunner, width_for
from forms.circuits.shelf import CircuitShelf
from forms.circuits.simulation import CpuBackend, Options, Result, simulate
from forms.circuits.xof import RngMode, Stream
from forms.cuda.host_build import NoCompiler, find_compiler
from forms.cuda.host_device import HostDevice
from tests.forms.circuits.files import golden, golden_bytes, loaded, random_operations, stock_file

PARTIAL = golden("toys_partial.golden.json")
BACKENDS: list[CpuBackend] = ["numba", "reference"]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> CpuBackend:
    if request.param == "numba":
        pytest.importorskip("numba", reason="numba is not installed: the extra cpu-forms brings it")
    return "numba" if request.param == "numba" else "reference"


def toy(name: str) -> Circuit:
    return load_circuit(golden_bytes(f"toy_{name}.bin"))


def totals(result: Result) -> dict[str, Any]:
    return {
        "shots": result.shots,
        "total_toffoli": result.toffoli,
        "total_clifford": result.clifford,
        "classical_failures": result.classical_failures,
        "phase_garbage_batches": result.phase_garbage_batches,
        "ancilla_garbage_batches": result.ancilla_garbage_batches,
    }


@pytest.mark.parametrize("name", ["random", "mbu", "norand"])
def test_all_141_batches_of_a_toy(name: str) -> None:
    pytest.importorskip("numba", reason="numba is not installed: the extra cpu-forms brings it")
    wanted = golden("toys.golden.json")[name]
    result = simulate(toy(name), Options(digests=True))
    assert as_json(result, batches=True)["batches"] == wanted["batches"]
    assert totals(result) == {key: wanted[key] for key in totals(result)}
    assert (result.score, round(result.avg_clifford, 3)) == (wanted["score"], wanted["avg_clifford"])


@pytest.mark.parametrize("wanted", PARTIAL, ids=lambda wanted: f"{wanted['toy']}-{wanted['attempts']}")
def test_a_partial_last_batch(wanted: dict[str, Any], backend: CpuBackend) -> None:
    options = Options(attempts=wanted["attempts"], digests=True, backend=backend)
    result = simulate(toy(wanted["toy"]), options)
    assert as_json(result, batches=True)["batches"] == wanted["batches"]
    assert totals(result) == {key: wanted[key] for key in totals(result)}


def verdicts(result: Result) -> list[tuple[int, int, int, int, str, str]]:
    return [
        (batch.toffoli, batch.clifford, batch.phase, batch.garbage_qubit, batch.reason, batch.qubits_shake)
        for batch in result.batches
    ]


@pytest.mark.parametrize("seed", range(12))
def test_bits_that_share_slots_change_nothing(seed: int) -> None:
    pytest.importorskip("numba", reason="numba is not installed: the extra cpu-forms brings it")
    circuit = loaded(*random_operations(seed))
    options = Options(attempts=200, check=NoCheck())
    shared = simulate(circuit, options)
    apart = simulate(circuit, Options(attempts=200, check=NoCheck(), digests=True))
    defined = simulate(circuit, Options(attempts=200, check=NoCheck(), digests=True, backend="reference"))
    assert verdicts(apart) == verdicts(defined)
    assert [batch.bits_shake for batch in apart.batches] == [batch.bits_shake for batch in defined.batches]
    assert [verdict[:5] for verdict in verdicts(shared)] == [verdict[:5] for verdict in verdicts(defined)]


def test_lfsr_words_are_the_same_from_both_backends_and_not_shakes() -> None:
    pytest.importorskip("numba", reason="numba is not installed: the extra cpu-forms brings it")
    circuit = toy("random")
    fast = simulate(circuit, Options(attempts=130, rng=RngMode.LFSR))
    slow = simulate(circuit, Options(attempts=130, rng=RngMode.LFSR, backend="reference"))
    shake = simulate(circuit, Options(attempts=130))
    assert verdicts(fast) == verdicts(slow) != verdicts(shake)
    # No word is taken from the stream: it stands where the inputs ended.
    assert {batch.xof_pos for batch in fast.batches} == {130 * 64}


def test_without_numba_the_reference_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forms.circuits.compiled.is_available", lambda: False)
    wanted = PARTIAL[0]
    result = simulate(toy(wanted["toy"]), Options(attempts=wanted["attempts"]))
    assert (result.backend, result.toffoli) == ("reference", wanted["total_toffoli"])
    slow = simulate(toy("random"), Options(attempts=70, rng=RngMode.LFSR))
    monkeypatch.undo()
    assert verdicts(slow) == verdicts(simulate(toy("random"), Options(attempts=70, rng=RngMode.LFSR)))


def test_threads_change_nothing() -> None:
    circuit = toy("mbu")
    alone, many = (simulate(circuit, Options(attempts=2000, threads=threads)) for threads in (1, 5))
    assert alone.batches == many.batches
    assert [batch.batch for batch in many.batches] == list(range(32))


def test_a_run_too_large_for_eight_at_a_time_is_done_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba", reason="numba is not installed: the extra cpu-forms brings it")
    circuit = toy("random")
    wide = simulate(circuit, Options(attempts=300))
    monkeypatch.setattr("forms.circuits.runners._MOST_GROUP_BYTES", 1000)
    assert NumbaRunner(circuit, 8, keep_bits=False).width == 1
    assert simulate(circuit, Options(attempts=300)).batches == wide.batches


def test_lanes_without_a_shot_count_and_are_not_judged(backend: CpuBackend) -> None:
    circuit = loaded(Operation(Kind.CCX, 0, 1, 2), Operation(Kind.X, q_target=0), Operation(Kind.NEG))
    result = simulate(circuit, Options(attempts=100, check=NoCheck(), backend=backend))
    assert (result.toffoli, result.avg_toffoli) == (128, 1.28)
    assert [batch.live for batch in result.batches] == [64, 36]
    assert result.reason == "PHASE GARBAGE: global_phase = 0xffffffffffffffff across 64 live shots (must be 0)"
    assert (result.phase_garbage_batches, result.ancilla_garbage_batches) == (2, 2)


def test_no_shots_and_no_operations_are_a_result(backend: CpuBackend) -> None:
    result = simulate(loaded(), Options(attempts=0, check=NoCheck(), backend=backend))
    assert (result.shots, result.toffoli, result.score, result.clean) == (0, 0, 0, True)
    assert simulate(loaded(), Options(attempts=64, check=NoCheck(), backend=backend)).clean


def test_a_pop_from_an_empty_stack_does_nothing_and_a_push_ends_with_its_batch(backend: CpuBackend) -> None:
    circuit = loaded(
        Operation(Kind.POP_CONDITION),
        Operation(Kind.CX, q_control1=0, q_target=1),
        Operation(Kind.PUSH_CONDITION, c_condition=0),
        Operation(Kind.CX, q_control1=0, q_target=1),
    )
    result = simulate(circuit, Options(attempts=128, check=NoCheck(), backend=backend))
    assert [batch.clifford for batch in result.batches] == [64, 64]


def test_the_axis_gives_one_result_a_variant_in_order() -> None:
    circuits = [toy("random"), toy("norand"), toy("random"), toy("mbu")]
    results = simulate_axis(circuits, Options(attempts=4))
    alone = [simulate(circuit, Options(attempts=4)) for circuit in circuits]
    assert [verdicts(result) for result in results] == [verdicts(result) for result in alone]
    assert [result.operations for result in results] == [circuit.operations for circuit in circuits]


@pytest.mark.parametrize("rng", RngMode)
@pytest.mark.parametrize("most_bytes", [2**30, 200_000, 1])
def test_variants_side_by_side_are_each_alone(rng: RngMode, most_bytes: int) -> None:
    pytest.importorskip("numba", reason="numba is not installed: the extra cpu-forms brings it")
    circuits = [*[toy("mbu")] * 11, toy("random"), loaded(*random_operations(5)), loaded(), toy("norand")]
    options = Options(attempts=700, rng=rng, check=NoCheck(), threads=1)
    results = simulate_axis(circuits, options, most_bytes)
    assert [result.batches for result in results] == [simulate(circuit, options).batches for circuit in circuits]


@pytest.mark.parametrize(
    ("batches", "most", "width"),
    [(0, 9, 1), (1, 9, 1), (2, 9, 4), (4, 4, 4), (5, 9, 8), (141, 8, 8), (141, 7, 4), (9, 0, 1)],
)
def test_batches_at_a_time(batches: int, most: int, width: int) -> None:
    assert width_for(batches, most) == width


def test_the_shelf_loads_once_and_forgets_what_was_unused_for_longest() -> None:
    loads: list[str] = []

    def get(key: str) -> Circuit:
        def load() -> Circuit:
            loads.append(key)
            return loaded(*[Operation(Kind.NEG)] * 4)

        return shelf.get(key, load)

    shelf = CircuitShelf(most_operations=8)
    assert get("a") is get("a")
    for key in ("b", "a", "c", "a", "b"):
        get(key)
    assert loads == ["a", "b", "c", "b"]


@pytest.fixture(scope="module")
def stock() -> Circuit:
    """The public point addition, 12.8 million operations, loaded once."""
    pytest.importorskip("numba", reason="numba is not installed: the extra cpu-forms brings it")
    pytest.importorskip("zstandard", reason="zstandard is not installed: the extra cpu-forms brings it")
    if (path := stock_file()) is None:
        pytest.skip("the stock circuit is not here: MESHD_CIRCUITS names its folder")
    return load_circuit(path)


@pytest.mark.timeout(600)
def test_the_stock_circuit(stock: Circuit) -> None:
    circuit, wanted = stock, golden("stock.golden.json")["stock"]
    assert (circuit.operations, circuit.qubits, circuit.bits) == (wanted["ops"], wanted["qubits"], wanted["bits"])
    assert circuit.seed.stream().take(256).hex() == wanted["xof_first_256_bytes"]
    result = simulate(circuit)
    assert totals(result) == {key: wanted[key] for key in totals(result)}
    assert (result.toffoli, result.clifford) == (15_999_651_264, 77_100_095_947)
    assert (result.score, result.clean, result.avg_toffoli) == (wanted["score"], True, wanted["avg_toffoli"])
    digested = simulate(circuit, Options(check=FourBatches(), digests=True))
    assert as_json(digested, batches=True)["batches"] == wanted["batches"]


@pytest.mark.timeout(600)
def test_the_stock_circuit_by_its_kernel_on_the_host(stock: Circuit) -> None:
    try:
        find_compiler()
    except NoCompiler as error:
        pytest.skip(str(error))
    apart, renamed = (
        simulate_on_device(HostDevice(), [stock], Options(check=FourBatches(), digests=digests))[0]
        for digests in (True, False)
    )
    assert as_json(apart, batches=True)["batches"] == golden("stock.golden.json")["stock"]["batches"]
    assert [verdict[:5] for verdict in verdicts(renamed)] == [verdict[:5] for verdict in verdicts(apart)]


class FourBatches:
    """The first four batches of a whole run: all inputs are drawn, so that the stream stands where it would."""

    def require(self, circuit: Circuit) -> None:
        SECP256K1_CHECK.require(circuit)

    def cases(self, circuit: Circuit, stream: Stream, attempts: int) -> Cases:
        whole = SECP256K1_CHECK.cases(circuit, stream, attempts)
        return Cases(4 * 64, whole.loads, whole.expected)
