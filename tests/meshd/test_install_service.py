"""`meshd install-service`: what lands where, without starting anything."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from meshd.cli.app import app
from tests.transport.examples import OWNER, invite
from transport.invite import format_token

TOKEN = format_token(invite(), OWNER)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def typed(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def test_the_unit_and_its_settings_are_written(home: Path) -> None:
    done = typed("--join", TOKEN, "--no-mdns", "install-service", "--user", "--no-start", "--json")

    answer = json.loads(done.stdout)
    unit, settings = Path(answer["unit"]), Path(answer["settings"])
    assert (done.exit_code, answer["is_running"]) == (0, False)
    assert unit == home / "systemd/user/meshd.service"
    assert "--no-mdns" in unit.read_text() and TOKEN not in unit.read_text()
    assert f"MESHD_JOIN={TOKEN}" in settings.read_text().splitlines()
    assert (stat.S_IMODE(unit.stat().st_mode), stat.S_IMODE(settings.stat().st_mode)) == (0o644, 0o600)


def test_a_second_time_keeps_what_a_person_wrote_and_takes_a_new_token(home: Path) -> None:
    settings = home / "meshd/meshd.env"
    settings.parent.mkdir()
    settings.write_text("MESHD_JOIN=meshd1:old\nMESHD_CTX=4096\n")

    typed("install-service", "--user", "--no-start")
    assert "MESHD_JOIN=meshd1:old" in settings.read_text()
    typed("--join", TOKEN, "install-service", "--user", "--no-start")
    lines = settings.read_text().splitlines()
    assert f"MESHD_JOIN={TOKEN}" in lines and "MESHD_CTX=4096" in lines and "MESHD_JOIN=meshd1:old" not in lines


def test_printing_writes_nothing(home: Path) -> None:
    done = typed("--join", TOKEN, "install-service", "--user", "--print")

    assert done.stdout.startswith("[Unit]") and TOKEN not in done.output
    assert "MESHD_JOIN" in done.stderr
    assert not list(home.iterdir())


def test_the_hosts_service_has_its_own_data_directory() -> None:
    done = typed("--data-dir", "mine", "install-service", "--print")

    assert done.exit_code == 1
    assert "/var/lib/meshd" in done.stderr and "--user" in done.stderr


@pytest.mark.parametrize(("flag", "value", "complaint"), [("--ctx", "-1", "ctx"), ("--join", TOKEN[:-9], "damaged")])
def test_a_bad_setting_is_told_now_and_not_to_the_journal(flag: str, value: str, complaint: str) -> None:
    done = typed(flag, value, "install-service", "--print")

    assert done.exit_code == 2 and complaint in done.stderr
