"""Run a circuit over many shots, count its gates, and judge every batch.

Random words come off one sequential stream, so they are drawn here, in order, while the batches before run in
threads of their own: given its words, a batch depends on no other.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from forms.circuits import compiled
from forms.circuits.checks import SECP256K1_CHECK, Cases, Check
from forms.circuits.circuit import Circuit
from forms.circuits.lanes import batches_of, from_lane, live_mask
from forms.circuits.runners import Final, NumbaRunner, ReferenceRunner, Runner
from forms.circuits.words import WordSource
from forms.circuits.xof import RngMode

# The public evaluator's, 141 batches of 64.
ATTEMPTS = 9024
_MOST_U64 = 2**64 - 1

Backend = Literal["numba", "reference"]


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
    backend: Backend | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What one batch came to. Counters are its own, and count lanes without a shot too, as the public evaluator does.

    phase: lanes whose sign is −1.  garbage_qubit: the lowest that is not 0 and in no register, −1 for none.
    qubits_shake, bits_shake: 16 bytes of SHAKE-256 over all final words, hexadecimal; empty without `digests`.
    xof_pos: bytes taken from the stream so far.  reason: the first thing wrong, empty for nothing.
    """

    batch: int
    live: int
    toffoli: int
    clifford: int
    phase: int
    classical_bad: int
    garbage_qubit: int
    qubits_shake: str
    bits_shake: str
    xof_pos: int
    reason: str


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


def simulate(circuit: Circuit, options: Options | None = None) -> Result:
    """Run `circuit` and judge it. In mode shake every number is the public evaluator's, bit for bit.

    Blocks for as long as it takes; the interpreter stays free for other threads most of the time. Raises
    BadCircuit when the check wants other registers, CircuitTooLarge for conditions too deep.
    """
    options = options or Options()
    started = time.perf_counter()
    options.check.require(circuit)
    stream = circuit.seed.stream()
    cases = options.check.cases(circuit, stream, options.attempts)
    words = WordSource(circuit, options.rng, stream)
    backend = options.backend or ("numba" if compiled.is_available() else "reference")
    count = batches_of(cases.shots)
    runner: Runner = NumbaRunner(circuit, count, options.digests) if backend == "numba" else ReferenceRunner(circuit)
    step = 8 * circuit.words_per_batch if options.rng is RngMode.SHAKE else 0
    run = _Run(circuit, cases, options.digests, runner, step)
    threads = options.threads or len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(threads, thread_name_prefix="circuit") as pool:
        batches = tuple(run.batches(pool, threads, words, count))
    toffoli, clifford = sum(batch.toffoli for batch in batches), sum(batch.clifford for batch in batches)
    counts = (circuit.operations, circuit.qubits, circuit.bits, len(circuit.registers))
    return Result(*counts, cases.shots, toffoli, clifford, batches, time.perf_counter() - started, backend)


@dataclass(frozen=True, slots=True)
class _Run:
    circuit: Circuit
    cases: Cases
    digests: bool
    runner: Runner
    # Bytes of the stream that a batch takes.
    step: int

    def batches(self, pool: ThreadPoolExecutor, threads: int, words: WordSource, count: int) -> Iterator[Batch]:
        """Run groups of batches, at most one more than there are threads at a time, and give them back in order."""
        width = self.runner.width
        running: deque[Future[list[Batch]]] = deque()
        for first in range(0, count, width):
            start = words.position
            random = words.take(min(width, count - first))
            if len(running) >= threads:
                yield from running.popleft().result()
            running.append(pool.submit(self._group, first, random, start))
        while running:
            yield from running.popleft().result()

    def _group(self, first: int, random: NDArray[np.uint64], position: int) -> list[Batch]:
        finals = self.runner.run(self.cases, first, random)
        return [
            self._judged(first + index, final, position + (index + 1) * self.step) for index, final in enumerate(finals)
        ]

    def _judged(self, batch: int, final: Final, position: int) -> Batch:
        mask = live_mask(self.cases.shots, batch)
        qubits_shake = _digest(final.qubits) if self.digests else ""
        bits_shake = _digest(final.bits) if self.digests else ""
        wrong = self._wrong_lanes(batch, final) & mask
        garbage, word = self._garbage(final, mask)
        return Batch(
            batch,
            mask.bit_count(),
            final.toffoli,
            final.clifford,
            final.phase,
            wrong.bit_count(),
            garbage,
            qubits_shake,
            bits_shake,
            position,
            self._reason(batch, final, wrong, garbage, word),
        )

    def _register(self, final: Final, index: int) -> NDArray[np.uint64]:
        register = self.circuit.registers[index]
        words = np.empty(register.width, np.uint64)
        words[register.is_bit] = final.bits[register.wires[register.is_bit]]
        words[~register.is_bit] = final.qubits[register.wires[~register.is_bit]]
        return words

    def _wrong_lanes(self, batch: int, final: Final) -> int:
        wrong = np.uint64(0)
        for index, expected in self.cases.expected.items():
            wrong |= np.bitwise_or.reduce(self._register(final, index) ^ expected[batch], initial=np.uint64(0))
        return int(wrong)

    def _garbage(self, final: Final, mask: int) -> tuple[int, int]:
        """The lowest qubit outside all registers that is not 0 in a live lane, with its live lanes; −1 for none."""
        left = final.qubits & np.uint64(mask)
        for register in self.circuit.registers:
            left[register.wires[~register.is_bit]] = 0
        dirty = np.flatnonzero(left)
        return (int(dirty[0]), int(left[dirty[0]])) if len(dirty) else (-1, 0)

    def _reason(self, batch: int, final: Final, wrong: int, garbage: int, word: int) -> str:
        live = live_mask(self.cases.shots, batch)
        if wrong:
            lane = (wrong & -wrong).bit_length() - 1
            got = (hex(from_lane(self._register(final, index), lane)) for index in self.cases.expected)
            wanted = (hex(from_lane(words[batch], lane)) for words in self.cases.expected.values())
            return f"CLASSICAL MISMATCH shot {64 * batch + lane}: got ({','.join(got)}) exp ({','.join(wanted)})"
        if final.phase & live:
            shots = live.bit_count()
            return f"PHASE GARBAGE: global_phase = 0x{final.phase & live:016x} across {shots} live shots (must be 0)"
        return f"ANCILLA GARBAGE: qubit {garbage} = 0x{word:016x} (live shots)" if garbage >= 0 else ""


def _digest(words: NDArray[np.uint64]) -> str:
    return hashlib.shake_256(words.astype("<u8", copy=False).tobytes()).hexdigest(16)
