"""`meshd sim`: what may be asked, the table and the object, the picture, and schedules of faults."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from gossip.roster import Roster, Verdict
from gossip.simulator.measure import Plan, Row, measure, percentile
from meshd.cli import sim_plot
from meshd.cli.app import app
from meshd.cli.sim import read_losses, read_nodes
from meshd.cli.sim_show import as_object, plans

runner = CliRunner()


def row(nodes: int, loss: float) -> Row:
    plan = Plan(nodes, loss)
    return Row(plan, (4.0, 5.0, 7.0), (0.1, 0.2, 0.4), (1.0, 2.0), 0, 1.0, 900.0, 9.0, 1000)


def quiet(text: str) -> None:
    pass


def test_loss_is_per_cent_or_a_share() -> None:
    assert read_losses("0,5,30,0.05") == [0.0, 0.05, 0.3, 0.05]
    assert read_nodes("2,200") == [2, 200]


@pytest.mark.parametrize("text", ["", "a", "5,", "60", "-1"])
def test_a_loss_that_no_mesh_survives_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        read_losses(text)


@pytest.mark.parametrize("text", ["1", "501", "2.5", "ten"])
def test_sizes_that_no_mesh_has_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        read_nodes(text)


def test_percentiles_are_of_the_nearest_rank() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]
    assert percentile([3.0], 0.99) == 3.0


def test_the_same_plan_makes_the_same_row_and_another_seed_another() -> None:
    first, again, other = (measure(Plan(3, 0.2, 2, 1, 0.01, seed=seed), quiet) for seed in (1, 1, 2))
    assert first == again
    assert first.detection_s != other.detection_s
    assert len(first.detection_s) == len(first.fact_s) == 2
    assert all(3.0 < took < 12.0 for took in first.detection_s)
    assert all(took < 2.0 for took in first.fact_s)
    assert first.false_deaths == 0
    assert first.largest_datagram <= 1100


def test_hints_make_detection_no_slower() -> None:
    def worst(*, with_hints: bool) -> float:
        plan = Plan(5, 0.0, 5, 1, 0.01, with_hints=with_hints)
        return measure(plan, quiet).detection_s[-1]

    assert worst(with_hints=True) <= worst(with_hints=False) + 0.5


def test_every_size_goes_with_every_loss() -> None:
    planned = plans([2, 3], [0.0, 0.3], trials=4, seed=7, rtt_ms=40.0, node_hours=0.5, with_hints=True)
    assert [(one.nodes, one.loss) for one in planned] == [(2, 0.0), (2, 0.3), (3, 0.0), (3, 0.3)]
    assert all((one.rtt_s, one.seed, one.partitions, one.with_hints) == (0.04, 7, 2, True) for one in planned)


def test_an_object_has_the_figures_by_name() -> None:
    found = as_object(row(10, 0.3))
    assert (found["nodes"], found["loss"], found["detection_max_s"], found["fact_p99_s"]) == (10, 0.3, 7.0, 0.4)
    assert (found["merge_median_s"], found["false_deaths"], found["bytes_per_s"]) == (1.5, 0, 900.0)


def test_the_command_prints_a_table_and_an_object() -> None:
    words = ["sim", "--nodes", "3", "--loss", "5", "--trials", "2", "--hours", "0.01"]
    table = runner.invoke(app, words)
    assert table.exit_code == 0
    assert (
        "2 trials a line" in table.output and "packets/s" in table.output
    )  # no head is cut where there is no terminal
    found = json.loads(runner.invoke(app, [*words, "--json"]).stdout)
    assert [(one["nodes"], one["loss"]) for one in found["rows"]] == [(3, 0.05)]


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "sim.png"
    sim_plot.drawing(str(path))([row(nodes, loss) for nodes in (10, 50, 200) for loss in (0.0, 0.3)])
    assert path.read_bytes().startswith(b"\x89PNG")
    assert 10_000 < path.stat().st_size < 150_000


def test_a_folder_that_is_not_there_is_noticed_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        sim_plot.drawing(str(tmp_path / "missing" / "sim.png"))
    assert "there is no such directory" in capsys.readouterr().err


def test_without_matplotlib_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(typer.Exit):
        sim_plot.drawing("sim.png")
    assert "meshd-gpu[plots]" in capsys.readouterr().err


def test_schedules_say_that_every_rule_held() -> None:
    kept = runner.invoke(app, ["sim", "--schedules", "2", "--seed", "3"])
    assert kept.exit_code == 0
    assert kept.stdout.startswith("2 schedules kept every rule")
    found = json.loads(runner.invoke(app, ["sim", "--schedules", "2", "--seed", "3", "--json"]).stdout)
    assert [one["seed"] for one in found["rows"]] == [3, 4]
    assert found["failed"] == []


def test_a_broken_rule_is_an_exit_of_1_with_the_command_that_shows_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Roster, "_refute", lambda self: Verdict.STALE)
    broken = runner.invoke(app, ["sim", "--schedules", "12", "--seed", "0"])
    assert broken.exit_code == 1
    assert "see it again: meshd sim --schedules 1 --seed" in broken.stderr
    assert "schedules broke a rule" in broken.stderr
