"""Run a circuit over many shots, count its gates, and judge every batch.

Random words come off one sequential stream, so they are drawn here, in order, while the batches before run in
threads of their own: given its words, a batch depends on no other.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from forms.circuits import compiled
from forms.circuits.checks import SECP256K1_CHECK, Cases, Check
from forms.circuits.circuit import Circuit
from forms.circuits.judging import Batch, Judge
from forms.circuits.lanes import batches_of
from forms.circuits.runners import NumbaRunner, ReferenceRunner, Runner, group_batches, width_for
from forms.circuits.state import Final
from forms.circuits.words import WordSource
from forms.circuits.xof import RngMode

# The public evaluator's, 141 batches of 64.
ATTEMPTS = 9024
_MOST_U64 = 2**64 - 1

CpuBackend = Literal["numba", "reference"]
Backend = CpuBackend | Literal["cuda"]


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a circuit.

    attempts: shots to draw inputs for; 64 a batch, the last of which may be partial.  threads: None for all cores.
    digests: also hash every batch's final qubits and bits, at the price of all bits staying apart.
    backend: None for numba where it is installed.
    """

    attempts: int = ATTEMPTS
    rng: RngMode = RngMode.SHAKE
    check: Check = SECP256K1_CHECK
    threads: int | None = None
    digests: bool = False
    backend: CpuBackend | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """A whole run. toffoli, clifford: sums over all batches.  seconds: wall time, loading left out."""

    operations: int
    qubits: int
    bits: int
    registers: int
    shots: int
    toffoli: int
    clifford: int
    batches: tuple[Batch, ...]
    seconds: float
    backend: Backend

    @property
    def avg_toffoli(self) -> float:
        """Toffoli operations a shot."""
        return self.toffoli / max(self.shots, 1)

    @property
    def avg_clifford(self) -> float:
        """Clifford operations a shot."""
        return self.clifford / max(self.shots, 1)

    @property
    def score(self) -> int:
        """Toffoli a shot, rounded half up, times qubits; the public evaluator states it for a clean run only."""
        return min(int(self.avg_toffoli + 0.5) * self.qubits, _MOST_U64)

    @property
    def classical_failures(self) -> int:
        """Shots whose answer is wrong."""
        return sum(batch.classical_bad for batch in self.batches)

    @property
    def phase_garbage_batches(self) -> int:
        """Batches with a live shot of sign −1."""
        return sum(bool(batch.phase & (1 << batch.live) - 1) for batch in self.batches)

    @property
    def ancilla_garbage_batches(self) -> int:
        """Batches that leave a qubit outside the registers other than 0 in a live shot."""
        return sum(batch.garbage_qubit >= 0 for batch in self.batches)

    @property
    def reason(self) -> str:
        """The first failure in order of batches; empty for a clean run."""
        return next((batch.reason for batch in self.batches if batch.reason), "")

    @property
    def clean(self) -> bool:
        """Whether every check passed in every batch."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class Draw:
    """A run before its first batch. words: to be taken in the order of batches, which is the stream's."""

    circuit: Circuit
    options: Options
    cases: Cases
    words: WordSource

    @property
    def batches(self) -> int:
        """How many there are to run."""
        return batches_of(self.cases.shots)

    def judged(self, first: int, finals: Sequence[Final], start: int) -> list[Batch]:
        """Judge batches from number `first` on. start: the stream's position before the first's words."""
        judge = Judge(self.circuit, self.cases, self.options.digests)
        step = 8 * self.circuit.words_per_batch if self.options.rng is RngMode.SHAKE else 0
        return [judge.judge(first + index, final, start + (index + 1) * step) for index, final in enumerate(finals)]

    def result(self, batches: Sequence[Batch], seconds: float, backend: Backend) -> Result:
        """Sum up."""
        circuit = self.circuit
        toffoli, clifford = sum(batch.toffoli for batch in batches), sum(batch.clifford for batch in batches)
        counts = (circuit.operations, circuit.qubits, circuit.bits, len(circuit.registers))
        return Result(*counts, self.cases.shots, toffoli, clifford, tuple(batches), seconds, backend)


def draw(circuit: Circuit, options: Options) -> Draw:
    """Draw the inputs of a run. Raises BadCircuit when the check wants other registers."""
    options.check.require(circuit)
    stream = circuit.seed.stream()
    cases = options.check.cases(circuit, stream, options.attempts)
    return Draw(circuit, options, cases, WordSource(circuit, options.rng, stream))


def simulate(circuit: Circuit, options: Options | None = None) -> Result:
    """Run `circuit` and judge it. In mode shake every number is the public evaluator's, bit for bit.

    Blocks for as long as it takes; the interpreter stays free for other threads most of the time. Raises
    BadCircuit when the check wants other registers, CircuitTooLarge for conditions too deep.
    """
    options = options or Options()
    started = time.perf_counter()
    run = draw(circuit, options)
    backend = options.backend or ("numba" if compiled.is_available() else "reference")
    width = width_for(run.batches, group_batches(circuit))
    runner: Runner = NumbaRunner(circuit, width, options.digests) if backend == "numba" else ReferenceRunner(circuit)
    threads = options.threads or len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(threads, thread_name_prefix="circuit") as pool:
        batches = list(_in_groups(run, runner, pool, threads))
    return run.result(batches, time.perf_counter() - started, backend)


def _in_groups(run: Draw, runner: Runner, pool: ThreadPoolExecutor, threads: int) -> Iterator[Batch]:
    """Run groups of batches, at most one more than there are threads at a time, and give them back in order."""
    running: deque[Future[list[Batch]]] = deque()
    for first in range(0, run.batches, runner.width):
        start = run.words.position
        random = run.words.take(min(runner.width, run.batches - first))
        if len(running) >= threads:
            yield from running.popleft().result()
        running.append(pool.submit(_group, run, runner, first, random, start))
    while running:
        yield from running.popleft().result()


def _group(run: Draw, runner: Runner, first: int, random: NDArray[np.uint64], start: int) -> list[Batch]:
    return run.judged(first, runner.run(run.cases, first, random), start)
