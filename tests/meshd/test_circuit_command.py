"""`meshd circuit`: its exit code is the verdict, and its JSON has the names of the files with known answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from forms.circuits.generator.generate import Algorithm, Arithmetic, generate
from forms.circuits.kinds import Kind, Operation
from meshd.cli.circuit import app
from tests.forms.circuits.files import raw_file


def meshd_circuit(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def adder(tmp_path: Path) -> str:
    path = tmp_path / "adder.ops"
    path.write_bytes(generate(Arithmetic.ADDER, 5, Algorithm()))
    return str(path)


def test_a_clean_run_exits_0_with_its_numbers(adder: str) -> None:
    answer = meshd_circuit(adder, "--check", "adder", "--shots", "100", "--json", "--batches")
    report = json.loads(answer.stdout)
    assert answer.exit_code == 0
    assert (report["shots"], report["toffoli"], report["clean"]) == (100, 8 * 128, True)
    assert [batch["live"] for batch in report["batches"]] == [64, 36]
    assert len(report["batches"][0]["qubits_shake"]) == 32


def test_a_failed_check_still_prints_its_numbers_and_exits_1(tmp_path: Path) -> None:
    path = tmp_path / "dirty.ops"
    path.write_bytes(raw_file([Operation(Kind.X, q_target=3)]))
    answer = meshd_circuit(str(path), "--check", "none", "--shots", "64", "--json")
    report = json.loads(answer.stdout)
    assert (answer.exit_code, report["ancilla_garbage_batches"], report["clean"]) == (1, 1, False)
    assert "qubit 3" in report["reason"]


def test_a_file_that_cannot_be_loaded_is_an_error_and_exits_1(tmp_path: Path) -> None:
    path = tmp_path / "bad.ops"
    path.write_bytes(raw_file([Operation(Kind.X)]))
    answer = meshd_circuit(str(path), "--json")
    assert answer.exit_code == 1
    assert json.loads(answer.stdout) == {"error": "op 0: kind=X but q_target is not set"}


def test_a_file_that_is_not_there_is_an_error_and_exits_1(tmp_path: Path) -> None:
    answer = meshd_circuit(str(tmp_path / "nothing"), "--json")
    assert (answer.exit_code, json.loads(answer.stdout)) == (
        1,
        {"error": f"{tmp_path}/nothing: No such file or directory"},
    )


def test_words_follow_the_source_and_the_seed_that_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "random.ops"
    path.write_bytes(raw_file([Operation(Kind.X, q_target=0), Operation(Kind.R, q_target=0)]))
    asked = [[], ["--rng", "lfsr"], ["--rng-mode", "lfsr"], ["--seed-version", "v1"], ["--seed-version", "v2"]]
    answers = [meshd_circuit(str(path), "--check", "none", "--batches", "--json", *words) for words in asked]
    phases = [json.loads(answer.stdout)["batches"][0]["phase"] for answer in answers]
    assert phases[1] == phases[2]
    assert phases[4] == phases[0]
    assert len(set(phases)) == 3


@pytest.mark.parametrize("words", [["--rng", "dice"], ["--seed-version", "v3"]])
def test_an_unknown_source_of_words_is_a_usage_error(adder: str, words: list[str]) -> None:
    assert meshd_circuit(adder, *words).exit_code == 2


def test_an_unknown_check_is_a_usage_error(adder: str) -> None:
    assert meshd_circuit(adder, "--check", "nothing-such").exit_code == 2


def test_generate_writes_one_file_for_each_algorithm(tmp_path: Path) -> None:
    answer = meshd_circuit("generate", "modular-multiplier", "--width", "5", "--folder", str(tmp_path), "--json")
    report = json.loads(answer.stdout)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(Path(path).name for path in report["files"])
    assert len(report["files"]) == 6
    assert meshd_circuit(report["files"][0], "--check", report["check"], "--shots", "64").exit_code == 0
