"""The stock circuit over 9,024 shots, and many small runs of one circuit: `python -m bench.circuits FILE`.

FILE is the public point addition, 12.8 million operations; MESHD_CIRCUITS names the folder it lies in. Wall time
is what a user waits for, CPU time what another machine would compare with: this one's cores are shared.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forms.circuits.axis import simulate_axis
from forms.circuits.circuit import Circuit, load_circuit
from forms.circuits.lanes import LANES
from forms.circuits.runners import circuit_program
from forms.circuits.simulation import Options, Result, simulate
from forms.circuits.xof import RngMode

# One core of the public evaluator on machine A.
EVALUATOR_S = 50
# The bend page's K and M; its 217 Mops/s, of an RTX 3090, are operations times variants times batches.
VARIANTS = 32
BATCHES_A_VARIANT = 4
PUBLISHED_MOPS = 217


@contextmanager
def _timed(what: str) -> Iterator[None]:
    wall, processor = time.perf_counter(), time.process_time()
    yield
    spent = time.process_time() - processor
    print(f"{what:<44} {time.perf_counter() - wall:7.2f} s wall {spent:7.2f} s CPU", flush=True)


def measure(path: Path, rounds: int) -> None:
    """Load and run the circuit `rounds` times, print each part, then run it as many variants of few shots."""
    print(f"{path.name}; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for _ in range(rounds):
        with _timed("all of it"):
            circuit, result = _once(path)
        _print(result)
    for rng in RngMode:
        for batches in (1, BATCHES_A_VARIANT):
            _axis(circuit, batches, rng)
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB at most")


def _axis(circuit: Circuit, batches: int, rng: RngMode) -> None:
    options = Options(attempts=LANES * batches, rng=rng)
    wall, processor = time.perf_counter(), time.process_time()
    with _timed(f"{VARIANTS} variants x {batches} batches, {rng}, loaded"):
        simulate_axis([circuit] * VARIANTS, options)
    operations = circuit.operations * VARIANTS * batches / 1e6
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(
        f"  {operations / wall:,.0f} M ops/s, {operations / processor:,.0f} a core; published: {PUBLISHED_MOPS}",
        flush=True,
    )


def _once(path: Path) -> tuple[Circuit, Result]:
    with _timed("  load: unpack, check, hash"):
        circuit = load_circuit(path)
    with _timed("  lower (the first time: and compile)"):
        circuit_program(circuit)
    with _timed("  simulate and judge 9,024 shots"):
        return circuit, simulate(circuit)


def _print(result: Result) -> None:
    rate = result.operations * len(result.batches) / result.seconds
    print(
        f"  toffoli {result.toffoli:,}  clifford {result.clifford:,}  clean {result.clean}  {rate / 1e6:,.0f} M ops/s"
    )
    print(f"  {EVALUATOR_S / result.seconds:.1f}x the public evaluator's {EVALUATOR_S} s on one core")


def main() -> None:
    """Read the command line and measure."""
    folder = Path(os.environ.get("MESHD_CIRCUITS", "../shared/data/circuits"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=folder / "stock.ops.zst")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    measure(arguments.file, arguments.rounds)


if __name__ == "__main__":
    main()
