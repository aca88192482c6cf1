"""`meshd poc`: how fast this host proves its compute, a proof checked from its file, and what the proofs catch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from forms.poc.groups import Device
from forms.poc.threads import pin_threads
from meshd.cli.output import JsonFlag, fail, print_json
from meshd.cli.poc_race import judge_kept, kept_file, race
from meshd.cli.poc_show import show_run, show_verdict
from meshd.cli.running import DataDirOption

app = typer.Typer(no_args_is_help=True, help="Proof of compute: its rate here, races, a proof checked, and the audit")
app.command()(race)


@app.command()
def run(
    preset: Annotated[str, typer.Option(help="tiny, small or exact")] = "small",
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="how long to search")] = 10.0,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="threads of each group's process")] = 1,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="keep the proof in this file")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Search for nonces with each group of this host's GPUs, or its processor; say the rate and what checking costs."""
    pin_threads(os.environ, threads)
    # Numpy is for this command only, and reads when it is loaded how many threads it may have.
    from forms.poc.group_search import GroupFailed, HostSearch
    from forms.poc.profile import PRESETS
    from forms.poc.rate import encode_proof, measure

    if preset not in PRESETS:
        raise typer.BadParameter(f"preset is one of {', '.join(PRESETS)}, got {preset!r}")
    search = HostSearch(own_groups(), threads)
    with Progress(console=Console(stderr=True), transient=True, disable=as_json) as progress:
        task = progress.add_task(f"searching with {preset}", total=seconds)

        def told(spent_s: float) -> None:
            progress.update(task, completed=min(seconds, spent_s))

        try:
            measured, proof = measure(search, PRESETS[preset], os.urandom(32), seconds, told)
        except GroupFailed as failure:
            fail(str(failure))
    if out is not None:
        out.write_bytes(encode_proof(proof))
    report = {**measured.as_json(), **({"file": str(out)} if out is not None else {})}
    if as_json:
        print_json(report)
    else:
        show_run(report)


def own_groups() -> list[tuple[Device, ...]]:
    """This host's groups: of GPUs where CuPy can use them, else its processor."""
    from importlib.util import find_spec

    from forms.poc.groups import group_devices
    from meshd.hardware import GIB, Limits, read_devices

    devices = read_devices(Limits(0)).devices if find_spec("cupy") is not None else ()
    gpus = [one for one in devices if one.kind == "cuda"]
    return group_devices(Device(number, one.total_bytes / GIB) for number, one in enumerate(gpus))


@app.command()
def verify(
    name: Annotated[
        str, typer.Argument(metavar="FILE|TRANSCRIPT", help="of `meshd poc run --out`, or 64 hex digits of a race")
    ],
    directory: DataDirOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Check a proof: compute its samples again. Exits 1 unless it holds, and shows what its verifier says it does."""
    from transport.errors import ProtocolError

    try:
        file = kept_file(name, directory)
        data = file.read_bytes()
        report = judge_kept(data) or judge_own(data)
    except (OSError, ProtocolError, ValueError) as failure:
        fail(f"{name}: {failure}")
    if as_json:
        print_json(report)
    else:
        show_verdict(report)
    raise typer.Exit(0 if report["is_honest"] and report.get("is_confirmed", True) else 1)


def judge_own(data: bytes) -> dict[str, Any]:
    """What a proof shows that `meshd poc run` wrote. Raises ProtocolError, ValueError."""
    from forms.poc.rate import decode_proof, judge_proof

    proof = decode_proof(data)
    judgement = judge_proof(proof)
    verdict = judgement.verdict
    report: dict[str, Any] = {"is_honest": judgement.is_honest, "reason": judgement.reason, "nonces": proof.count}
    if verdict is not None:
        report |= {"samples": verdict.samples, "soft": verdict.soft, "hard": verdict.hard, "worst_error": verdict.worst}
    return report


@app.command()
def audit(as_json: JsonFlag = False) -> None:
    """Run each cheat live against m1 and against the published recipe. Exits 1 unless m1 catches all."""
    # The audit's matrices are so small that a second thread costs more than it brings; read when numpy is loaded.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from forms.poc.audit import HONEST, Finding, audit
    from forms.poc.cheats import CHEATS

    findings: list[Finding] = []
    with Progress(console=Console(stderr=True), transient=True, disable=as_json) as progress:
        task = progress.add_task("auditing", total=2 * (1 + len(CHEATS)))
        for finding in audit(os.urandom(16)):
            findings.append(finding)
            progress.advance(task)
    holds = all(finding.is_caught == (finding.cheat != HONEST) for finding in findings if finding.recipe == "m1")
    if as_json:
        print_json({recipe: _rows(findings, recipe) for recipe in ("m1", "published")})
    else:
        for finding in findings:
            word = "caught" if finding.is_caught else "passes" if finding.cheat == HONEST else "FOOLED"
            typer.echo(f"{finding.recipe:<10} {finding.cheat:<17} {word:<7} {finding.evidence}")
    raise typer.Exit(0 if holds else 1)


def _rows(findings: list[Any], recipe: str) -> list[dict[str, Any]]:
    from forms.poc.audit import HONEST

    return [
        {"cheat": finding.cheat, "caught": finding.is_caught, "evidence": finding.evidence}
        for finding in findings
        if finding.recipe == recipe and finding.cheat != HONEST
    ]
