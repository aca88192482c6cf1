"""Many variants of a circuit over few shots each: the work goes along the variants, and nothing is read twice.

Their streams are independent of one another, unlike the words of one: they are squeezed side by side.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from forms.circuits import compiled
from forms.circuits.circuit import Circuit
from forms.circuits.judging import Batch
from forms.circuits.runners import NumbaRunner, width_for
from forms.circuits.simulation import Draw, Options, Result, draw, simulate
from forms.circuits.words import WordSource

# Streams that are squeezed at once.
SIDE_BY_SIDE = 8
# Random words in memory, of all threads together.
MOST_WORD_BYTES = 3 * 2**29


def simulate_axis(circuits: Sequence[Circuit], options: Options, most_bytes: int = MOST_WORD_BYTES) -> list[Result]:
    """Run every circuit with the same options; results in the order of `circuits`.

    A circuit named twice is run twice. The variants are shared out to `options.threads`; `seconds` are those of all
    that a thread ran together. Raises what `simulate` raises, for the first variant at fault.
    """
    threads = options.threads or len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(threads, thread_name_prefix="variant") as pool:
        if options.backend == "reference" or not compiled.is_available():
            return list(pool.map(lambda circuit: simulate(circuit, replace(options, threads=1)), circuits))
        bytes_each = max((8 * circuit.words_per_batch for circuit in circuits), default=0)
        room = most_bytes // threads // max(bytes_each, 1)
        size = max(1, min(SIDE_BY_SIDE, -(-len(circuits) // threads), room))
        groups = [circuits[first : first + size] for first in range(0, len(circuits), size)]
        results = pool.map(lambda group: _together(group, options, max(1, room // size)), groups)
        return [result for group in results for result in group]


@dataclass(slots=True)
class _Variant:
    run: Draw
    runner: NumbaRunner
    batches: list[Batch] = field(default_factory=list)

    @property
    def next_count(self) -> int:
        return min(self.runner.width, self.run.batches - len(self.batches))


def _together(circuits: Sequence[Circuit], options: Options, most_batches: int) -> list[Result]:
    """Run a few circuits in one thread, each by so many batches at a time at most."""
    started = time.perf_counter()
    variants = []
    for circuit in circuits:
        run = draw(circuit, options)
        variants.append(_Variant(run, NumbaRunner(circuit, width_for(run.batches, most_batches), options.digests)))
    while going := [variant for variant in variants if variant.next_count]:
        _round(going)
    seconds = time.perf_counter() - started
    return [variant.run.result(variant.batches, seconds, "numba") for variant in variants]


def _round(variants: Sequence[_Variant]) -> None:
    """Draw the words of every variant's next batches, all at once, and run them."""
    each = [(variant.next_count, variant.run.circuit.words_per_batch) for variant in variants]
    starts = [variant.run.words.position for variant in variants]
    words = np.empty(sum(count * size for count, size in each), np.uint64)
    WordSource.fill_all([variant.run.words for variant in variants], words, [count * size for count, size in each])
    at = 0
    for variant, start, (count, size) in zip(variants, starts, each, strict=True):
        random = words[at : at + count * size].reshape(count, size)
        first = len(variant.batches)
        finals = variant.runner.run(variant.run.cases, first, random)
        variant.batches += variant.run.judged(first, finals, start)
        at += count * size
