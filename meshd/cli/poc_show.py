"""What `meshd poc run` and `verify` found, for people: a line for each thing, with its unit. JSON has the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer


def show_run(report: Mapping[str, Any]) -> None:
    """Print what `forms.poc.rate.Measured` says."""
    _print(run_lines(report))


def show_verdict(report: Mapping[str, Any]) -> None:
    """Print what a proof shows."""
    _print(verdict_lines(report))


def run_lines(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values, in the order of reading."""
    share, known = 100 * report["verify_over_generate"], 100 * report["relative_sd"]
    lines = [
        ("preset", str(report["preset"])),
        ("on", where(report["groups"])),
        ("batches", f"of {', '.join(map(str, report['batches']))}"),
        ("threads", f"{report['threads']} a process; {report['cores']:.2f} cores were to be had"),
        ("nonces", f"{report['nonces']:,}: {report['nonces_per_minute']:,.0f} a minute, known to {known:.1f} %"),
        ("speed", f"{report['tested_per_s']:,.0f} nonces tried a second, {report['gflop_per_s']:.3g} GFLOP/s"),
        ("at least", f"{report['tflop_per_s_at_least']:.3g} TFLOP/s: what verifiers would attest"),
        ("network", f"made in {report['init_s']:.3g} s"),
        ("searching", f"{report['generate_s']:.3g} s"),
        ("checking", f"{report['verify_s']:.3g} s, {share:.1f} % of searching"),
        ("VRAM", str(report["vram"])),
    ]
    return [*lines, ("proof", str(report["file"]))] if "file" in report else lines


def verdict_lines(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values, the verdict first."""
    lines = [("proof", "holds" if report["is_honest"] else f"does not hold: {report['reason']}")]
    if "prover" in report:
        # A transcript's: what its verifier said of it may be another thing.
        told = "so its verifier says" if report["is_confirmed"] else f"its verifier says otherwise: {report['said']}"
        lines += [("verdict", told), ("prover", report["prover"]), ("verifier", report["verifier"])]
        lines += [("at least", f"{report['flop_per_s'] / 1e12:.3g} TFLOP/s")] if report["is_confirmed"] else []
    lines.append(("nonces", f"{report['nonces']:,}"))
    if "samples" in report:
        wrong = f", {report['hard']} wrong" if "hard" in report else ""
        off = f"{report['soft']} off{wrong}, the largest error {report['worst_error']:.3g}"
        lines.append(("samples", f"{report['samples']} computed again: {off}"))
    return lines


def where(groups: Sequence[Sequence[int]]) -> str:
    """Which devices searched: `GPUs 0 and 1; GPU 2`, or the processor."""
    return "; ".join(_group(devices) for devices in groups)


def _group(devices: Sequence[int]) -> str:
    names = " and ".join(map(str, devices))
    return f"GPU{'s' * (len(devices) > 1)} {names}" if devices else "the processor"


def _print(lines: Sequence[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        typer.echo(f"{name:<{width}}  {value}")
