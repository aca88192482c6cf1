"""Runs on the host build of the kernel, against the files with known answers; how they agree with the CPU's own, in
tests/forms/cuda."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from forms.circuits import compiled
from forms.circuits.checks import NoCheck
from forms.circuits.circuit import Circuit, load_circuit
from forms.circuits.failures import BadCircuit
from forms.circuits.kinds import Kind, Operation
from forms.circuits.launch_plan import Room
from forms.circuits.on_device import simulate_on_device
from forms.circuits.packing import pack
from forms.circuits.report import as_json
from forms.circuits.runners import circuit_program
from forms.circuits.simulation import Options, Result, simulate
from forms.circuits.xof import RngMode
from forms.cuda.device import Buffer
from forms.cuda.host_build import NoCompiler, find_compiler
from forms.cuda.host_device import HostDevice
from tests.forms.circuits.files import golden, golden_bytes, loaded, random_operations

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

# A toy's program and a few batches.
SMALL = Room(device_bytes=100_000, word_bytes=2**14)


@pytest.fixture(autouse=True)
def _compiler() -> None:
    try:
        find_compiler()
    except NoCompiler as error:
        pytest.skip(str(error))


class Watched:
    """The host device, with the kernels that were launched, the bytes that were uploaded, and by which threads."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.launched: list[str] = []
        self.uploaded: list[int] = []
        self._host = HostDevice()

    @property
    def free_bytes(self) -> int:
        return self._host.free_bytes

    def upload(self, data: NDArray[Any] | bytes | memoryview) -> Buffer:
        buffer = self._host.upload(data)
        self.threads.add(threading.get_ident())
        self.uploaded.append(buffer.size_bytes)
        return buffer

    def empty(self, size_bytes: int) -> Buffer:
        return self._host.empty(size_bytes)

    def zeros(self, size_bytes: int) -> Buffer:
        return self._host.zeros(size_bytes)

    def download(self, buffer: Buffer) -> NDArray[numpy.uint8]:
        return self._host.download(buffer)

    def launch(self, source: Path, kernel: str, threads: int, arguments: Sequence[Any], block: int = 128) -> None:
        self.launched.append(kernel)
        self.threads.add(threading.get_ident())
        self._host.launch(source, kernel, threads, arguments, block)


def toy(name: str) -> Circuit:
    return load_circuit(golden_bytes(f"toy_{name}.bin"))


def program_bytes(circuit: Circuit) -> int:
    return pack(circuit_program(circuit)).nbytes


def numbers(result: Result) -> tuple[Any, ...]:
    return result.shots, result.toffoli, result.clifford, result.batches


@pytest.mark.parametrize("name", ["random", "mbu", "norand"])
def test_all_141_batches_of_a_toy(name: str) -> None:
    wanted = golden("toys.golden.json")[name]
    (result,) = simulate_on_device(HostDevice(), [load_circuit(golden_bytes(f"toy_{name}.bin"))], Options(digests=True))
    assert as_json(result, batches=True)["batches"] == wanted["batches"]
    assert (result.toffoli, result.clifford) == (wanted["total_toffoli"], wanted["total_clifford"])


@pytest.mark.parametrize(
    "wanted", golden("toys_partial.golden.json"), ids=lambda wanted: f"{wanted['toy']}-{wanted['attempts']}"
)
def test_a_partial_last_batch(wanted: dict[str, Any]) -> None:
    circuit = load_circuit(golden_bytes(f"toy_{wanted['toy']}.bin"))
    (result,) = simulate_on_device(HostDevice(), [circuit], Options(wanted["attempts"], digests=True))
    assert as_json(result, batches=True)["batches"] == wanted["batches"]


@pytest.mark.parametrize("rng", RngMode)
def test_a_run_in_many_launches_is_the_run_in_one(rng: RngMode) -> None:
    circuits = [toy("random"), loaded(*random_operations(3)), toy("random"), toy("norand")]
    options, device = Options(attempts=640, rng=rng, check=NoCheck()), Watched()
    many = simulate_on_device(device, circuits, options, SMALL)
    assert len(device.launched) > 4
    # A CUDA device is chosen by thread.
    assert device.threads == {threading.get_ident()}
    assert [numbers(one) for one in many] == [numbers(simulate(circuit, options)) for circuit in circuits]


def test_variants_over_few_shots_are_one_launch_and_a_program_is_uploaded_once() -> None:
    circuit, options = toy("mbu"), Options(attempts=4)
    device, single = Watched(), Watched()
    results = simulate_on_device(device, [circuit] * 32, options)
    (alone,) = simulate_on_device(single, [circuit], options)
    assert [numbers(one) for one in results] == [numbers(alone)] * 32
    assert len(device.launched) == 1
    assert device.uploaded.count(program_bytes(circuit)) == single.uploaded.count(program_bytes(circuit)) == 1
    assert sum(device.uploaded) < 32 * program_bytes(circuit)


def test_one_circuits_program_stays_between_launches() -> None:
    circuit, device = toy("random"), Watched()
    simulate_on_device(device, [circuit], Options(attempts=640), SMALL)
    assert len(device.launched) > 1
    assert device.uploaded.count(program_bytes(circuit)) == 1


def test_a_state_that_does_not_fit_a_blocks_shared_memory_stays_far() -> None:
    device = Watched()
    for qubits in (6000, 7000):
        circuit = loaded(*[Operation(Kind.X, q_target=qubit) for qubit in range(qubits)])
        (result,) = simulate_on_device(device, [circuit], Options(attempts=64, check=NoCheck()))
        assert result.batches[0].garbage_qubit == 0
    assert device.launched == ["simulate_near", "simulate_far"]


def test_a_check_that_wants_other_registers_refuses_before_anything_runs() -> None:
    device = Watched()
    with pytest.raises(BadCircuit, match="expected 4 registers"):
        simulate_on_device(device, [toy("random"), loaded()], Options(attempts=4))
    assert not device.launched


def test_without_numba_a_circuit_is_lowered_too(monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(attempts=70)
    wanted = simulate(toy("norand"), options)
    made = (compiled.last_uses, compiled.share_slots, compiled.stack_depths)
    monkeypatch.setattr("forms.circuits.compiled.is_available", lambda: False)
    for function in made:
        function.cache_clear()
    try:
        (result,) = simulate_on_device(HostDevice(), [toy("norand")], options)
    finally:
        for function in made:
            function.cache_clear()
    assert numbers(result) == numbers(wanted)
