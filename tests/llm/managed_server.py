"""A server that commands begin and end, as a service manager's would: `--upstream … start=… stop=…`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

END_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class ManagedServer:
    """Commands that begin and end one process in the background."""

    folder: Path
    argv: tuple[str, ...]
    environment: tuple[str, ...] = ()

    @property
    def start(self) -> tuple[str, ...]:
        command = shlex.join(("env", *self.environment, *self.argv))
        # No redirection: what a server inherits must not keep the command that began it from ending.
        return "sh", "-c", f"{command} & echo $! > {shlex.quote(str(self._pid_file))}"

    @property
    def stop(self) -> tuple[str, ...]:
        return "sh", "-c", f"kill $(cat {shlex.quote(str(self._pid_file))})"

    @property
    def options(self) -> str:
        """For `--upstream`."""
        return f"start={shlex.quote(shlex.join(self.start))} stop={shlex.quote(shlex.join(self.stop))}"

    @property
    def is_running(self) -> bool:
        pid = self._pid
        return pid is not None and psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE

    async def ended(self) -> None:
        """Wait until its process is gone: it may say no more and still be clearing up."""
        async with asyncio.timeout(END_TIMEOUT_S):
            while self.is_running:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.02)

    def suspend(self) -> None:
        """Let it live and do nothing."""
        psutil.Process(self._pid).suspend()

    def resume(self) -> None:
        psutil.Process(self._pid).resume()

    def end(self) -> None:
        """Leave nothing behind."""
        if (pid := self._pid) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @property
    def _pid_file(self) -> Path:
        return self.folder / "server.pid"

    @property
    def _pid(self) -> int | None:
        said = self._pid_file.read_text() if self._pid_file.exists() else ""
        return int(said) if said.strip() else None  # the shell makes the file before it writes to it


@contextlib.contextmanager
def managed(folder: Path, argv: Sequence[str], *environment: str) -> Iterator[ManagedServer]:
    """Such a server, not begun; it does not outlive the context."""
    server = ManagedServer(folder, tuple(argv), environment)
    try:
        yield server
    finally:
        server.end()
