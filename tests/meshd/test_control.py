"""The control door over a real Unix socket."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from meshd.control import CommandFailed, ControlClient, NotRunning
from meshd.control_app import control_app
from meshd.http_server import listen_unix
from tests.meshd.serving import served

pytestmark = pytest.mark.live


async def echo(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"got": arguments}


async def refuse(arguments: dict[str, Any]) -> dict[str, Any]:
    raise CommandFailed("not today")


async def test_a_command_and_its_answer(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with served(control_app({"echo": echo}), listen_unix(str(path))):
        answer = await asyncio.to_thread(ControlClient(path).call, "echo", n=1)

    assert answer == {"got": {"n": 1}}


async def test_the_socket_is_for_this_user_only(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    listen_unix(str(path)).close()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_refused_command_says_why(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with served(control_app({"refuse": refuse}), listen_unix(str(path))):
        with pytest.raises(CommandFailed, match=r"^not today$"):
            await asyncio.to_thread(ControlClient(path).call, "refuse")


async def test_an_unknown_command_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with served(control_app({}), listen_unix(str(path))):
        with pytest.raises(CommandFailed, match="404"):
            await asyncio.to_thread(ControlClient(path).call, "fly")


def test_without_an_agent_the_command_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="start one with `meshd`"):
        ControlClient(tmp_path / "control.sock").call("status")


def test_a_stale_socket_counts_as_not_running(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    listen_unix(str(path)).close()

    with pytest.raises(NotRunning):
        ControlClient(path).call("status")


AS_ANOTHER = """
import os, sys
from pathlib import Path
from meshd.control import CommandFailed, ControlClient
if os.geteuid() == 0:
    os.seteuid(65534)  # whom modes do not stop
try:
    ControlClient(Path(sys.argv[1])).call("status")
except CommandFailed as failed:
    print(failed)
"""


def test_the_agent_of_another_user_is_told_as_such(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0)
    command = [sys.executable, "-c", AS_ANOTHER, str(folder / "control.sock")]

    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)

    assert "is another user's: ask as that user" in done.stdout, done.stderr
