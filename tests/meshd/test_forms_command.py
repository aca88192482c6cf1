"""`meshd forms`: the catalogue for people and for scripts, without an agent."""

from __future__ import annotations

import json

import typer
from typer.testing import CliRunner

from meshd.cli.forms import forms

app = typer.Typer()
app.command()(forms)


def test_scripts_get_every_entry_with_its_status() -> None:
    answer = CliRunner().invoke(app, ["--json"])
    listed = {one["name"]: one for one in json.loads(answer.stdout)["forms"]}
    assert answer.exit_code == 0
    assert len(listed) >= 65
    assert listed["cuda-shake-fanout"]["status"] in ("built", "live")
    assert listed["cuda-shake-fanout"]["magic"] == "BSHK"
    assert listed["cuda-ntt-poly"] == {
        "name": "cuda-ntt-poly",
        "status": "surveyed",
        "magic": "",
        "figure": "up to 123× over CPU; 21× on RTX 3070",
        "hardware": "RTX 3070",
        "reference": "NTTSuite · FHE NTT",
        "is_ours": False,
        "wave": 1,
        "published": {
            "form": "cuda-ntt-poly",
            "figure": "up to 123× over CPU; 21× on RTX 3070",
            "hardware": "RTX 3070",
            "reference": "NTTSuite · FHE NTT",
            "wave": 1,
        },
    }


def test_people_see_whose_figure_it_is() -> None:
    answer = CliRunner().invoke(app, ["ntt-poly"])
    assert "cuda-ntt-poly" in answer.stdout and "(published)" in answer.stdout
    assert "cuda-shake-fanout" not in answer.stdout


def test_a_status_that_does_not_exist_is_usage() -> None:
    assert CliRunner().invoke(app, ["--status", "done"]).exit_code == 2


def test_where_no_form_is_meant_a_line_says_so_and_no_empty_table() -> None:
    answer = CliRunner().invoke(app, ["no-such-form"])

    assert (answer.exit_code, answer.stdout) == (0, "")
    assert "`meshd forms`" in answer.stderr
