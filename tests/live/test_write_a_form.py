"""docs/write-a-form.md does what it says: its files, as they stand there, make a form that an agent runs."""

from __future__ import annotations

import asyncio
import os
import shutil
import struct
import sys
from pathlib import Path

import pytest

from meshd.launcher import ProcessLauncher
from meshd.local_agents import LocalAgents, last_lines
from tests.docs.written_form import blocks, install, write_files
from tests.live.test_bend import ask_http, ask_wire, door

BROKEN = """
[project]
name = "broken"
version = "1"
[project.entry-points."meshd.forms"]
broken = "no_such_module:Form"
"""


def test_the_form_itself_takes_less_than_sixty_lines() -> None:
    written = dict(reversed(blocks()))  # the first of each name
    lines = [line for name in ("pyproject.toml", "collatz_form.py") for line in written[name].splitlines() if line]
    assert len(lines) < 60


@pytest.mark.skipif(shutil.which("g++") is None, reason="the host build of a kernel needs a C++ compiler")
async def test_the_suite_passes_kernel_and_all(tmp_path: Path) -> None:
    write_files(tmp_path / "collatz")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "test_collatz.py", "test_records.py"),
        cwd=tmp_path / "collatz",
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(280):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    assert b" passed" in out and b"failed" not in out, out.decode()
    assert b"blob-records makes up no sample" in out and b"collatz-steps makes up no sample" not in out, out.decode()
    assert b"collatz-steps takes no memory" not in out, out.decode()


async def test_an_installed_form_is_called_like_any_other_and_one_that_fails_harms_nobody(tmp_path: Path) -> None:
    write_files(tmp_path / "collatz")
    install(tmp_path / "collatz")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "pyproject.toml").write_text(BROKEN)
    install(broken)
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path / "collatz"), str(broken)])}
    agents = LocalAgents(tmp_path / "agents", ProcessLauncher(os.environ), environment=environment)
    (tmp_path / "agents").mkdir()
    async with agents.start("host") as host:
        wire, http = await door(host, "bend"), await door(host, "bend-http")
        said = await ask_wire(wire, "(forms)", "(collatz-steps '(27 97))", "(collatz-steps '(0))", "(ping)")
        assert '((name "collatz-steps") (status built) (frame BCOL))' in said[0]
        assert said[1] == "(ok (111 118))"
        assert said[2].startswith('(error (argument "number: expected an integer from 1'), said[2]
        assert said[3] == "(ok pong)"
        assert await ask_http(http, "(bend (collatz-steps '(27 97)))") == (200, "(ok (111 118))")
        reader, writer = await asyncio.open_connection(*wire.rsplit(":", 1))
        writer.write(struct.pack("<4sI2Q", b"BCOL", 2, 27, 97))
        blob = bytes(range(256))
        writer.write(struct.pack("<4sQ", b"BPUT", len(blob)) + blob)
        async with asyncio.timeout(60):
            assert await reader.readexactly(16) == struct.pack("<4sI2I", b"BCOR", 2, 111, 118)
            digest = (await reader.readexactly(36))[4:].hex()
        writer.close()
        (said_of_blob,) = await ask_wire(wire, f"""(blob-records '("0000000f" "00000010") "{digest}")""")
        assert said_of_blob == f'(ok ("{blob[-16:].hex()}" "{bytes(16).hex()}"))'
        log = last_lines(host.log, 200)
        assert "the form 'broken' (no_such_module:Form) is left out" in log
