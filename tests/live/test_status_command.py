"""`meshd status --watch` on a terminal: a page that lives until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import signal
import sys

from meshd.local_agents import LocalAgents
from tests.live.test_chat_command import PATIENCE_S
from tests.live.toy import api_of


def heeds_sigint() -> None:
    """Also where the tests run in the background, whose children would ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


async def test_a_live_view_shows_memory_and_what_happens(agents: LocalAgents) -> None:
    async with agents.start("host", ["--model", "echo:parrot"]) as host:
        await api_of(host, "parrot")
        ours, theirs = pty.openpty()
        argv = [sys.executable, "-m", "meshd", "status", "--watch", "--data-dir", str(host.directory)]
        environment = os.environ | {"COLUMNS": "150", "LINES": "60", "TERM": "xterm"}
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, preexec_fn=heeds_sigint
        )
        os.close(theirs)
        try:
            shown = ""
            async with asyncio.timeout(PATIENCE_S):
                while not all(word in shown for word in ("parrot", "other programs", "now and lately", "Ctrl-C")):
                    shown += (await asyncio.to_thread(os.read, ours, 65536)).decode(errors="replace")
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(PATIENCE_S):
                with contextlib.suppress(OSError):  # the terminal is gone with who wrote to it
                    while await asyncio.to_thread(os.read, ours, 65536):
                        pass
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
            os.close(ours)
        await _tells_programs_an_object_a_line([*argv, "--json"])


async def _tells_programs_an_object_a_line(argv: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE, preexec_fn=heeds_sigint)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(2):
                assert json.loads(await process.stdout.readline())["node"]["name"] == "host"
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
