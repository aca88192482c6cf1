"""A run as one JSON object, with the names that the files with known answers use."""

from __future__ import annotations

from typing import Any

from forms.circuits.judging import Batch
from forms.circuits.simulation import Result


def as_json(result: Result, *, batches: bool = False) -> dict[str, Any]:
    """Put a result into plain values. batches: also each of them, under `batches`."""
    report: dict[str, Any] = {
        "ops": result.operations,
        "qubits": result.qubits,
        "bits": result.bits,
        "registers": result.registers,
        "shots": result.shots,
        "toffoli": result.toffoli,
        "clifford": result.clifford,
        "avg_toffoli": round(result.avg_toffoli, 3),
        "avg_clifford": round(result.avg_clifford, 3),
        "score": result.score,
        "classical_failures": result.classical_failures,
        "phase_garbage_batches": result.phase_garbage_batches,
        "ancilla_garbage_batches": result.ancilla_garbage_batches,
        "clean": result.clean,
        "seconds": round(result.seconds, 3),
        "backend": result.backend,
    }
    if result.reason:
        report["reason"] = result.reason
    if batches:
        report["batches"] = [_batch(batch) for batch in result.batches]
    return report


def _batch(batch: Batch) -> dict[str, Any]:
    shown = {name: getattr(batch, name) for name in Batch.__slots__ if name != "reason"}
    return {**shown, "phase": f"{batch.phase:016x}"}
