"""`meshd poc`: a rate with a proof on file, which holds until a byte of it changes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forms.poc.rate import decode_proof, encode_proof
from meshd.cli.poc import app
from meshd.cli.poc_race import race_lines
from meshd.cli.poc_show import verdict_lines, where


def run(*words: str) -> tuple[int, dict[str, object]]:
    result = CliRunner().invoke(app, [*words, "--json"])
    return result.exit_code, json.loads(result.stdout)


@pytest.fixture(scope="module", autouse=True)
def _no_setting_outlives_a_command() -> Iterator[None]:
    """A command holds its process to so many threads; here it shares one with other tests."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("proof") / "proof"
    code, report = run("run", "--preset", "tiny", "--seconds", "0.1", "--out", str(path))
    assert code == 0
    assert int(str(report["nonces"])) >= 64
    assert float(str(report["verify_over_generate"])) > 0
    return path


def test_a_proof_on_file_holds(proof: Path) -> None:
    code, report = run("verify", str(proof))
    assert (code, report["is_honest"], report["hard"], report["soft"]) == (0, True, 0, 0)


def test_people_are_told_in_words_where_it_ran_and_what_holds(proof: Path) -> None:
    shown = CliRunner().invoke(app, ["run", "--preset", "tiny", "--seconds", "0.1"]).stdout
    assert "on         the processor\n" in shown
    assert "[" not in shown
    shown = CliRunner().invoke(app, ["verify", str(proof)]).stdout
    assert shown.startswith("proof    holds\n")
    assert all(line.split(maxsplit=1)[1:] for line in shown.splitlines())


@pytest.mark.parametrize(
    ("groups", "words"),
    [([[]], "the processor"), ([[0]], "GPU 0"), ([[0, 1], [3]], "GPUs 0 and 1; GPU 3")],
)
def test_groups_are_named(groups: list[list[int]], words: str) -> None:
    assert where(groups) == words


TRANSCRIPT = {
    "is_honest": True,
    "is_confirmed": False,
    "reason": "",
    "prover": "p",
    "verifier": "v",
    "said": "fraud",
    "nonces": 2000,
    "samples": 64,
    "soft": 0,
    "worst_error": 0.001,
    "flop_per_s": 5e12,
}


def test_a_transcript_says_whether_its_verifier_does() -> None:
    lied = dict(verdict_lines(TRANSCRIPT))
    assert (lied["proof"], lied["verdict"]) == ("holds", "its verifier says otherwise: fraud")
    assert "at least" not in lied
    agreed = dict(verdict_lines({**TRANSCRIPT, "is_confirmed": True, "said": "attested"}))
    assert (agreed["verdict"], agreed["at least"]) == ("so its verifier says", "5 TFLOP/s")
    fraud = {**TRANSCRIPT, "is_honest": False, "is_confirmed": True, "reason": "64 of 64 samples are wrong"}
    assert dict(verdict_lines(fraud))["proof"] == "does not hold: 64 of 64 samples are wrong"


def test_a_race_is_told_with_the_names_of_nodes() -> None:
    found = {"prover": "aa" * 26, "verifier": "bb" * 26, "mismatches": 0, "samples": 64, "flop_per_s": 5e9}
    honest, fraud = ({**found, "verdict": word, "transcript": "f" * 64} for word in ("attested", "fraud"))
    report = {"attestations": [honest, fraud], "absent": {"cc" * 26: "it is at work"}, "refused": {}}
    assert race_lines(report, {"aa" * 26: "attic", "bb" * 26: "cellar"}) == [
        "attic: at least 0.005 TFLOP/s, checked by cellar (0 of 64 samples off)",
        f"  transcript {'f' * 64}",
        "attic: fraud, checked by cellar (0 of 64 samples off)",
        f"  transcript {'f' * 64}",
        "cccccccc took no part: it is at work",
    ]


def test_a_changed_proof_does_not(proof: Path, tmp_path: Path) -> None:
    import msgspec

    real = decode_proof(proof.read_bytes())
    altered = tmp_path / "altered"
    altered.write_bytes(encode_proof(msgspec.structs.replace(real, seed=bytes(32))))
    code, report = run("verify", str(altered))
    assert code == 1
    assert "another secret" in str(report["reason"])


def test_what_is_no_proof_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none"
    path.write_bytes(b"\x93nothing")
    result = CliRunner().invoke(app, ["verify", str(path)])
    assert result.exit_code == 1
    assert "expected Proof" in result.stderr


def test_a_preset_that_there_is_not_is_a_usage_error() -> None:
    assert CliRunner().invoke(app, ["run", "--preset", "huge"]).exit_code == 2
