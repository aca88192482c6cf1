"""Every command of the documents, typed against one mesh: a host with a model, and a member to be managed.

What is left out, and why, is in tests/docs/not_typed.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshd.control import ControlClient
from meshd.launcher import ProcessLauncher
from meshd.local_agents import AgentFailed, LocalAgent, LocalAgents
from tests.docs.commands import Command, commands
from tests.live.toy import TOY, sees_ready

DEADLINE_S = 200.0
AT_ONCE = 3
# These change what the others look at, so they come last, in their own order.
LAST = ("docs/operating.md", "docs/security.md")

ASK_FIRST = ("meshd models rm some-model",)


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody who types what the pages say. home: theirs, with their models in it and a repository in `work`."""

    home: Path
    host: LocalAgent
    doors: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """What a command gets; an agent that it starts takes any ports that are free."""
        ports = dict.fromkeys(("MESHD_PORT", "MESHD_CONSOLE_PORT", "MESHD_BEND_PORT"), "0")
        return ports | {
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MESHD_BIND": "127.0.0.1:0",
            "MESHD_NO_MDNS": "1",
        }

    async def typed_as(self, text: str) -> str:
        """The command with this mesh's ports, tokens and blobs for those of the page."""
        for port, door in (("9337", "api"), ("8321", "bend-http"), ("3131", "console")):
            text = text.replace(f"http://127.0.0.1:{port}", self.doors[door])
        if "meshd1:…" in text:
            text = text.replace("meshd1:…", await self.host.token("client" if "--client" in text else "member"))
        if text.endswith("install-service --user"):
            text += " --no-start"  # where systemd runs, it is not ours to start something in
        circuit = hashlib.sha256((self.home / "work/circuit.ops").read_bytes()).hexdigest()
        return text.replace("SHA256", circuit).replace("curl ", "curl --silent --show-error --fail-with-body ")

    async def read(self, page: list[Command], gate: asyncio.Semaphore) -> list[str]:
        """Type what a page says, in its order. Returns what went wrong."""
        wrong = []
        for command in page:
            async with gate:
                trouble = await self.start(command) if command.starts_an_agent else await self.type(command)
            wrong += [trouble] if trouble else []
        return wrong

    async def type(self, command: Command) -> str | None:
        """Type it, and wait for its end. Returns what went wrong."""
        process = await asyncio.create_subprocess_exec(
            *("bash", "-o", "pipefail", "-c", await self.typed_as(command.text)),
            cwd=self.home / "work",
            env=self.environment | {"MESHD_DATA_DIR": str(self.host.directory)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(DEADLINE_S):
            output, _ = await process.communicate(b"y\n" if command.text in ASK_FIRST else None)
        # A doctor that finds something wrong with the machine that runs the tests does its duty.
        fine = {0, 1} if command.text == "meshd doctor" else {0}
        if process.returncode in fine:
            return None
        return f"{command.page}: {command.text}\nended with {process.returncode}: {output.decode()[-2000:]}"

    async def start(self, command: Command) -> str | None:
        """Type what starts an agent, see it answer, and stop it. Returns what went wrong, its log's end with it."""
        which = hashlib.sha256(command.text.encode()).hexdigest()[:8]
        directory, log = self.home / which, self.home / f"{which}.log"
        words = ("bash", "-c", f"exec {await self.typed_as(command.text)}")
        environment = self.environment | {"MESHD_DATA_DIR": str(directory)}
        launcher = ProcessLauncher(os.environ)
        async with launcher.start(words, environment, log) as child:
            agent = LocalAgent(
                f"{command.page}: {command.text}", child, ControlClient(directory / "control.sock"), directory, log
            )
            try:
                await agent.until(lambda status: bool(status["node"]["id"]), DEADLINE_S)
            except AgentFailed as failed:
                return str(failed)
        return None


@contextlib.asynccontextmanager
async def reader(agents: LocalAgents) -> AsyncIterator[Reader]:
    """A host called home that serves ~/models/some-model.gguf, a member called attic, and who types."""
    home = agents.folder
    (home / "models").mkdir()
    shutil.copy(TOY, home / "models/some-model.gguf")
    (home / "work").mkdir()
    (home / "work/circuit.ops").write_bytes(b"any bytes make a blob")
    quiet = ["--no-mdns", "--threads", "1"]
    async with (
        agents.start("home", quiet) as host,
        agents.start("attic", [*quiet, "--join", await host.token("member")]),
    ):
        await host.call("model_load", name="some-model", path=str(home / "models/some-model.gguf"), policy="pinned")
        status = await host.until(lambda status: sees_ready(status, "some-model"), DEADLINE_S)
        await host.until(lambda status: len(status["peers"]) == 1, DEADLINE_S)
        yield Reader(home, host, status["doors"])


def by_page() -> dict[str, list[Command]]:
    """What is typed of each page. What several have is typed for the last of them, and those of LAST are whole."""
    typed = [command for command in commands() if command.reason_not_to is None]
    managing = {command.text for command in typed if command.page in LAST}
    once = {command.text: command for command in typed if command.text not in managing}.values()
    pages: dict[str, list[Command]] = {}
    for command in [*once, *(command for page in LAST for command in typed if command.page == page)]:
        pages.setdefault(command.page, []).append(command)
    return pages


@pytest.mark.timeout(600)
async def test_every_command_of_the_documents_does_what_it_should(agents: LocalAgents) -> None:
    pages = by_page()
    async with reader(agents) as typist:
        await run("git init --quiet && echo new > file && git add --intent-to-add file", typist.home / "work")
        gate = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            early = [group.create_task(typist.read(pages[page], gate)) for page in pages if page not in LAST]
        wrong = [trouble for task in early for trouble in task.result()]
        for page in LAST:
            wrong += await typist.read(pages[page], gate)

    assert sum(map(len, pages.values())) > 40
    assert wrong == []


async def run(text: str, folder: Path) -> None:
    process = await asyncio.create_subprocess_exec("bash", "-c", text, cwd=folder)
    assert await process.wait() == 0
