"""`meshd chat` as a person at a terminal uses it, and as a script does."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from pathlib import Path

from meshd.local_agents import LocalAgents
from tests.live.test_keys import meshd_key
from tests.live.toy import MODEL, SERVES_TOY, api_of

QUESTION = "What is meshd?"
PATIENCE_S = 120.0


async def run(directory: Path, *arguments: str, piped: str = "", key: str = "") -> tuple[int, str, str]:
    argv = [sys.executable, "-m", "meshd", "chat", *arguments, "--data-dir", str(directory)]
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"MESHD_API_KEY": key},
    )
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate(piped.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_script_gets_one_answer_and_reasons(agents: LocalAgents) -> None:
    async with agents.start("host", SERVES_TOY) as host:
        await api_of(host)
        status, out, err = await run(host.directory, piped=QUESTION)
        assert (status, err) == (0, "")
        assert "GPU" in out
        status, out, _ = await run(host.directory, MODEL, "--say", QUESTION, "--json")
        answer = json.loads(out)
        assert (answer["model"], answer["node"]) == (MODEL, "host")
        assert answer["usage"]["completion_tokens"] > 5
        status, out, err = await run(host.directory, "no-such-model", "--say", QUESTION)
        assert (status, out) == (1, "")
        assert f"there are: {MODEL}" in err
        made = await asyncio.to_thread(meshd_key, host.directory, "create", "me")
        assert "needs a key" in (await run(host.directory, "--say", QUESTION))[2]
        assert (await run(host.directory, "--say", QUESTION, key=made["key"]))[0] == 0


async def test_a_person_at_a_terminal_stops_answers_and_goes(agents: LocalAgents) -> None:
    async with agents.start("host", ["--model", "echo:parrot"]) as host:
        await api_of(host, "parrot")
        ours, theirs = pty.openpty()
        argv = [sys.executable, "-m", "meshd", "chat", "--data-dir", str(host.directory)]
        process = await asyncio.create_subprocess_exec(*argv, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        try:
            await until(ours, "> ")
            os.write(ours, b"hello there\n")
            shown = await until(ours, "> ")
            assert shown.count("hello there") == 2, "what was typed, and what came back"
            os.write(ours, b"\x04")
            assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
            os.close(ours)


async def until(terminal: int, end: str) -> str:
    """What the terminal shows until it ends in `end`."""
    shown = ""
    async with asyncio.timeout(PATIENCE_S):
        while not shown.endswith(end):
            shown += (await asyncio.to_thread(os.read, terminal, 4096)).decode(errors="replace")
    return shown
