"""`meshd poc race`: call a race now and watch it; and a race's transcript, judged here."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from meshd.cli.output import JsonFlag, fail, print_json
from meshd.cli.running import DataDirOption, call, data_dir

LOOK_S = 0.2
TERA = 1e12
DIGEST_LETTERS = 64


def race(
    preset: Annotated[str, typer.Option(help="tiny, small or exact (default: --poc-preset of the node)")] = "",
    seconds: Annotated[
        float, typer.Option(min=0, max=600, help="how long each node works (default: --poc-seconds of the node)")
    ] = 0.0,
    directory: DataDirOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Have all members that are connected and idle prove their compute to one another, now. Exits 1 when none did."""
    agent = data_dir(directory)
    now = call(agent, "poc_race", preset=preset, work_s=seconds)
    with Progress(console=Console(stderr=True), transient=True, disable=as_json) as progress:
        task = progress.add_task("agreeing on a race", total=now["work_s"])
        while now["state"] in ("agreeing", "racing"):
            time.sleep(LOOK_S)
            now = call(agent, "poc_progress")
            words = f"{len(now['claimants'])} nodes race, {now['found']} nonces found here" if now["claimants"] else ""
            progress.update(task, completed=min(now["spent_s"], now["work_s"]), description=words or None)
    if now["state"] == "failed":
        fail(now["reason"])
    if as_json:
        print_json(now)
    else:
        for line in race_lines(now, _names(call(agent, "status"))):
            typer.echo(line)
    raise typer.Exit(0 if any(one["verdict"] == "attested" for one in now["attestations"]) else 1)


def race_lines(report: dict[str, Any], names: dict[str, str]) -> list[str]:
    """What a race showed, for people. names: of nodes, by id."""

    def name(node: str) -> str:
        return names.get(node, node[:8])

    lines = []
    for one in sorted(report["attestations"], key=lambda one: (name(one["prover"]), name(one["verifier"]))):
        rate = f"at least {one['flop_per_s'] / TERA:.3g} TFLOP/s" if one["verdict"] == "attested" else "fraud"
        off = f"{one['mismatches']} of {one['samples']} samples off"
        lines.append(f"{name(one['prover'])}: {rate}, checked by {name(one['verifier'])} ({off})")
        lines.append(f"  transcript {one['transcript']}")
    for words, nodes in (("took no part", report["absent"]), ("not attested here", report["refused"])):
        lines += [f"{name(node)} {words}: {reason}" for node, reason in nodes.items()]
    return lines


def _names(status: dict[str, Any]) -> dict[str, str]:
    return {one["id"]: one["name"] for one in (status["node"], *status["peers"])}


def kept_file(name: str, directory: str) -> Path:
    """The file that a person means: a path, or a transcript's name, which the running agent then fetches."""
    path = Path(name)
    if path.exists() or len(name) != DIGEST_LETTERS:
        return path
    return Path(call(data_dir(directory), "poc_transcript", digest=name)["path"])


def judge_kept(data: bytes) -> dict[str, Any] | None:
    """What a file of a race shows; None for a file of another kind. Raises ProtocolError for a damaged one."""
    # Numpy is for this command only.
    from meshd.attest.attestation import open_attestation
    from meshd.attest.judging import judge_transcript
    from meshd.attest.transcript import FILE_TAG, contradiction, decode_kept, decode_transcript, digest_of
    from transport.identity import node_text
    from transport.interface import NodeId

    if FILE_TAG.encode() not in data[:64]:
        return None
    kept = decode_kept(data)
    transcript = decode_transcript(kept.transcript, None, "this file")
    teller = NodeId(transcript.verifier)
    findings = open_attestation(kept.signed, transcript.agreed.mesh_id, teller).findings
    judged = judge_transcript(kept.transcript)
    reason = judged.reason or contradiction(findings, transcript)
    is_confirmed = judged.verdict == findings.verdict and not contradiction(findings, transcript)
    return {
        "is_honest": judged.verdict == "attested",
        "is_confirmed": is_confirmed and findings.transcript == digest_of(kept.transcript),
        "reason": reason,
        "prover": node_text(NodeId(transcript.prover)),
        "verifier": node_text(teller),
        "said": findings.verdict,
        "nonces": findings.found,
        "samples": judged.samples,
        "soft": judged.mismatches,
        "worst_error": judged.worst,
        "flop_per_s": findings.flop_per_s,
    }
