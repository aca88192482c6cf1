"""Each form on this host's GPU beside its published figure and the card's own ceiling: `python -m bench.forms_gpu`.

The published figures are others', taken on an RTX 3090 (published_forms.csv says whose). A ceiling is what the figure
would be if nothing but the bytes, or the instructions, that the answer takes at the least were spent, at rates that
are measured on the same card in the same run. Circuits need files that are not in this repository: MESHD_CIRCUITS.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.gpu_cases import CASES, Case
from bench.gpu_rates import Rates, measure_rates
from bench.row import Row
from bench.timed_device import timed
from forms.backend import HasKernel
from forms.cuda.device import Device
from forms.live.shake import ShakeFanout

if TYPE_CHECKING:
    from forms.cuda.cupy_device import CupyDevice

PUBLISHED = Path(__file__).with_name("published_forms.csv")
ROUNDS = 5
STOCK = "stock.ops.zst"
STOCK_BATCHES, LANES = 141, 64
AXIS_VARIANTS, AXIS_SHOTS = 32, 4


@dataclass(frozen=True, slots=True)
class Published:
    """A figure of others, and the device that it was taken on."""

    value: float
    unit: str
    better: str
    device: str


@dataclass(frozen=True, slots=True)
class GpuRow(Row):
    """ceiling: what this card could reach at most, in the same unit; None where there is none to be told."""

    ceiling: float | None = None


@dataclass(frozen=True, slots=True)
class Times:
    """The best of the rounds. kernels_s: on the device.  whole_s: from a frame in memory to the reply in memory."""

    kernels_s: float
    whole_s: float


def published() -> dict[str, Published]:
    """The figures by case."""
    with PUBLISHED.open(encoding="utf-8") as file:
        return {
            row["case"]: Published(float(row["published"]), row["unit"], row["better"], row["device"])
            for row in csv.DictReader(file)
        }


def measure(case: Case, device: Device, wait: Callable[[], None], rows: int, rounds: int = ROUNDS) -> Times:
    """Answer the case's frame a few times, after once to warm up."""
    frame = case.frame(rows)
    times = [_once(case, frame, device, wait) for _ in range(rounds + 1)][1:]
    return Times(min(one.kernels_s for one in times), min(one.whole_s for one in times))


def _once(case: Case, frame: bytes, device: Device, wait: Callable[[], None]) -> Times:
    assert isinstance(case.form, HasKernel)
    watched = timed(device, wait)
    began = time.perf_counter()
    case.form.write_frame(case.form.kernel.run(watched, case.form.read_frame(frame)))
    return Times(watched.kernels_s, time.perf_counter() - began)


def row_of(case: Case, times: Times, rates: Rates, rows: int) -> GpuRow:
    """The case's line."""
    ours = case.figure(times.whole_s if case.is_whole else times.kernels_s, rows)
    ceiling = case.figure(rows * case.effort.least_s(rates), rows)
    return _row(case.name, ours, ceiling)


def _row(name: str, ours: float, ceiling: float | None = None) -> GpuRow:
    known = published()[name]
    theirs = f"published, {known.device}"
    return GpuRow(name, ours, known.value, theirs, ours / known.value, known.unit, known.better, 1.0, ceiling)


def form_rows(
    device: Device, wait: Callable[[], None], rates: Rates, scale: float = 1.0, rounds: int = ROUNDS
) -> Iterator[GpuRow]:
    """A line for each case. scale: of the numbers of rows, for a try."""
    for case in CASES:
        rows = max(1, int(case.rows * scale))
        times = measure(case, device, wait, rows, rounds)
        yield row_of(case, times, rates, rows)
        if isinstance(case.form, ShakeFanout):
            began = time.perf_counter()
            case.form.reference(case.form.read_frame(case.frame(rows)))
            yield _row("shake-over-hashlib", (time.perf_counter() - began) / times.whole_s)


def circuit_rows(device: Device, folder: Path, rounds: int = ROUNDS) -> Iterator[GpuRow]:
    """The stock circuit on the device and on this host's cores, then many variants of few shots.

    An operation of a variant counts once, however many of its shots it is done for.
    """
    from forms.circuits.circuit import load_circuit
    from forms.circuits.on_device import simulate_on_device
    from forms.circuits.simulation import Options, simulate

    circuit = load_circuit(folder / STOCK)
    whole = Options(attempts=STOCK_BATCHES * LANES)
    here = _best_s(lambda: simulate(circuit, whole), 1)
    yield _row("circuit-141-batches", here / _best_s(lambda: simulate_on_device(device, [circuit], whole), rounds))
    few, variants = Options(attempts=AXIS_SHOTS), [circuit] * AXIS_VARIANTS
    operations = simulate_on_device(device, variants, few)[0].operations * AXIS_VARIANTS
    seconds = _best_s(lambda: simulate_on_device(device, variants, few), rounds)
    yield _row("axis-32x4", operations / seconds / 1e6)


def _best_s(do: Callable[[], object], rounds: int) -> float:
    """After once to warm up."""
    taken = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        do()
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def show(row: GpuRow) -> str:
    share = ""
    if row.ceiling is not None:
        part = row.ceiling / row.ours if row.better == "lower" else row.ours / row.ceiling
        share = f"   {100 * part:5.1f} % of {row.ceiling:.4g}, this card's ceiling"
    return (
        f"{row.case:22} {row.ours:10.3f} {row.unit:8} x{row.ratio:.2f} of {row.baseline:g} ({row.baseline_name}){share}"
    )


def open_gpu() -> CupyDevice:
    """The first GPU. Ends the program in words where there is none."""
    try:
        from forms.cuda.cupy_device import CupyDevice, gpu_count
    except ImportError:
        raise SystemExit("no GPU was measured: CuPy is not installed; the extra cuda12 or cuda13 brings it") from None
    if not gpu_count():
        raise SystemExit("no GPU was measured: this host has none, or no driver for it")
    return CupyDevice()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of rows, for a quick try")
    parser.add_argument("--circuits", type=Path, default=os.environ.get("MESHD_CIRCUITS"), help=f"where {STOCK} is")
    options = parser.parse_args()
    gpu = open_gpu()
    rates = measure_rates(gpu, gpu.wait)
    rows = list(form_rows(gpu, gpu.wait, rates, options.scale))
    if options.circuits is not None:
        rows += circuit_rows(gpu, options.circuits)
    if options.json:
        print(json.dumps({"name": "forms_gpu", "machine": gpu.name, "rows": [asdict(row) for row in rows]}))
        return
    print(
        f"{gpu.name}: {rates.bytes / 1e9:.0f} GB/s copied, 32-bit: {rates.logic / 1e12:.2f} T bit operations/s, ",
        end="",
    )
    print(f"{rates.multiply_adds / 1e12:.2f} T multiply-adds/s")
    print("\n".join(map(show, rows)))
    if options.circuits is None:
        print(f"circuits were left out: name the folder that holds {STOCK} in MESHD_CIRCUITS", file=sys.stderr)


if __name__ == "__main__":
    main()
