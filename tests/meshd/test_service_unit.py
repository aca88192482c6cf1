"""The systemd unit: what it runs and how it is fenced in, read as systemd reads it where systemd is installed."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meshd.service_unit import ServiceHost, read_wishes, settings_text, unit_text

HOST = ServiceHost(
    python=Path(sys.executable),
    settings=Path("/etc/meshd/meshd.env"),
    installed=(Path("/opt/meshd"),),
    groups=("video",),
    makes_code=False,
    nvidia_modprobe=None,
)
# systemd's own scale: 10 is a service without any fence. What is left over is the network and the GPUs' devices.
WORST_EXPOSURE = 2.0


def written(flags: dict[str, Any], host: ServiceHost = HOST, *, is_user: bool = False) -> str:
    return unit_text(read_wishes(flags, Path("/srv"), is_user=is_user), host, is_user=is_user)


def command_of(unit: str) -> str:
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    return str(line).partition(" -m meshd")[2].strip()


def test_flags_are_kept_with_whole_paths() -> None:
    flags = {"model": ["toy.gguf", "hf:some/one", "echo:parrot"], "client": False, "no_mdns": True, "ctx": 2048}
    flags |= {"draft": "ngram", "config": "meshd.toml"}

    command = command_of(written(flags))
    assert command == (
        "--model /srv/toy.gguf --model hf:some/one --model echo:parrot --draft ngram --no-mdns --ctx 2048"
        " --config /srv/meshd.toml"
    )


def test_a_token_is_not_in_the_unit_that_anyone_may_read() -> None:
    wishes = read_wishes({"join": ["meshd1:one", "meshd1:two"]}, Path("/srv"), is_user=False)

    assert "meshd1" not in unit_text(wishes, HOST, is_user=False)
    assert "MESHD_JOIN=meshd1:one,meshd1:two" in settings_text(wishes.tokens).splitlines()


def test_it_starts_again_for_ever_but_not_after_leaving_or_for_a_bad_setting() -> None:
    unit = written({})

    assert "Restart=on-failure" in unit and "StartLimitIntervalSec=0" in unit
    assert "RestartPreventExitStatus=2" in unit


@pytest.mark.parametrize(
    ("word", "read"),
    [("a b", '"a b"'), ('say "x"', '"say \\"x\\""'), ("50%", "50%%"), ("$HOME", "$$HOME"), ("a\\b", '"a\\\\b"')],
)
def test_words_are_quoted_as_systemd_reads_them(word: str, read: str) -> None:
    assert command_of(written({"name": word})) == f"--name {read}"


def test_a_file_under_home_is_let_in_by_name() -> None:
    unit = written({"model": ["/home/ann/models/a.gguf", "/srv/b.gguf"]})

    assert re.findall(r"^BindReadOnlyPaths=(.*)$", unit, re.MULTILINE) == ["/home/ann/models/a.gguf"]


def test_a_host_installed_below_home_is_let_in_once() -> None:
    unit = written({}, replace(HOST, installed=(Path("/home/ann/app/.venv"), Path("/home/ann/app"), Path("/usr"))))

    assert re.findall(r"^BindReadOnlyPaths=(.*)$", unit, re.MULTILINE) == ["/home/ann/app"]


def test_a_file_of_keys_reaches_the_service_without_being_its_own() -> None:
    unit = written({"api_key_file": "/home/ann/keys"})

    assert "LoadCredential=api-key-file:/home/ann/keys" in unit
    assert command_of(unit) == "--api-key-file %d/api-key-file"
    assert command_of(written({"api_key_file": "/home/ann/keys"}, is_user=True)) == "--api-key-file /home/ann/keys"


def test_memory_that_is_written_and_run_is_forbidden_unless_something_compiles() -> None:
    assert "\nMemoryDenyWriteExecute=yes" in written({})
    assert "\nMemoryDenyWriteExecute=yes" not in written({}, replace(HOST, makes_code=True))


def test_a_users_unit_needs_no_mount_namespace() -> None:
    unit = written({"data_dir": "mine"}, is_user=True)

    assert not re.findall(r"^(?:Protect|Private|Bind|Dynamic|State)\w+=", unit, re.MULTILINE)
    assert "NoNewPrivileges=yes" in unit and command_of(unit) == "--data-dir /srv/mine"


def test_no_key_of_a_section_stands_twice_by_accident() -> None:
    """configparser refuses a repeated key; the few that systemd adds up are taken out first."""
    several = re.compile(r"^(?:DeviceAllow|BindReadOnlyPaths|LoadCredential|ExecStartPre)=.*$", re.MULTILINE)
    parser = configparser.RawConfigParser()
    parser.read_string(several.sub("", written({"model": ["/home/ann/a.gguf"], "api_key_file": "k"})))

    assert parser["Install"]["WantedBy"] == "multi-user.target"


@pytest.fixture
def systemd_analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd is not installed here: apt-get install systemd")
    return found


@pytest.mark.parametrize("makes_code", [False, True])
@pytest.mark.parametrize("is_user", [False, True])
def test_systemd_takes_every_line(systemd_analyze: str, tmp_path: Path, *, is_user: bool, makes_code: bool) -> None:
    host = replace(HOST, makes_code=makes_code, nvidia_modprobe=Path("/bin/true"))
    unit = tmp_path / "meshd.service"
    unit.write_text(written({"model": ["/home/ann/a b.gguf"], "api_key_file": "/home/ann/keys"}, host, is_user=is_user))

    done = subprocess.run([systemd_analyze, "verify", str(unit)], capture_output=True, text=True, timeout=250)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "meshd" in line]) == (0, [])


def test_systemd_calls_the_fence_good(systemd_analyze: str, tmp_path: Path) -> None:
    unit = tmp_path / "meshd.service"
    unit.write_text(written({}))

    command = [systemd_analyze, "security", "--offline=true", "--no-pager", f"--threshold={WORST_EXPOSURE * 10:.0f}"]
    done = subprocess.run([*command, str(unit)], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout.splitlines()[-1] + done.stderr
