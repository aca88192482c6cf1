"""Starts children that die with the agent, each under a `launch_child` process of its own.

What guards a child, and against what, is told there; here are the agent's half (order, report, ending), the
environment a child gets and its log file. Restarting with back-off belongs to whoever owns the child.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

logger = logging.getLogger("meshd.launcher")

START_TIMEOUT_S = 20.0
END_MARGIN_S = 3.0
MAX_LOG_BYTES = 8 << 20

LAUNCH_CHILD = Path(__file__).with_name("launch_child.py")

LIBRARY_PATH = "LD_LIBRARY_PATH" if sys.platform != "darwin" else "DYLD_LIBRARY_PATH"

# Named one by one: a prefix such as NVIDIA_ would let NVIDIA_API_KEY through.
PASSED_ON = (
    *("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", LIBRARY_PATH, "OMP_NUM_THREADS"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_HOME", "CUDA_PATH", "CUDA_CACHE_PATH", "CUDA_MODULE_LOADING"),
    *("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "GGML_CUDA_ENABLE_UNIFIED_MEMORY"),
    *("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION", "GGML_VK_VISIBLE_DEVICES"),
    "ONEAPI_DEVICE_SELECTOR",
)
# The driver, and so the ledger, numbers GPUs by their place on the bus; CUDA would by what it takes for the fastest.
UNLESS_TOLD = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


class LaunchFailed(OSError):
    """The program could not be started: not found, not executable, or its launcher died. Carries the errno."""


@dataclass(frozen=True, slots=True)
class LaunchedChild:
    """A running child; `llm.engines.interface.Child`."""

    pid: int
    process: Process

    async def wait(self) -> int:
        """The exit status; negative for a signal. Any number may wait, any number of times."""
        return await self.process.wait()


@dataclass(frozen=True, slots=True)
class ProcessLauncher:
    """`llm.engines.interface.Launcher` on real processes.

    environment: the agent's own, from which PASSED_ON is taken.  grace_s: between SIGTERM and SIGKILL.
    """

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    grace_s: float = 5.0

    @contextlib.asynccontextmanager
    async def start(self, argv: Sequence[str], env: Mapping[str, str], log: Path) -> AsyncIterator[LaunchedChild]:
        """Run `argv` with `env` added to a minimal environment, output appended to `log`.

        Leaving the context ends the child: SIGTERM, then SIGKILL after `grace_s`. Raises LaunchFailed.
        """
        order = encode_order(argv, child_environment(self.environment, env))
        process = await self._spawn(argv[0], len(order), log)
        pid = None
        try:
            pid = await _give_order(process, order, argv[0], log)
            logger.debug("started %s as pid %d, output in %s", argv[0], pid, log)
            yield LaunchedChild(pid, process)
        finally:
            await self._end(process, pid)

    async def _spawn(self, program: str, order_bytes: int, log: Path) -> Process:
        arguments = (str(os.getpid()), str(self.grace_s), str(order_bytes), Path(program).name)
        output = open_log(log)
        try:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(LAUNCH_CHILD), *arguments),
                stdin=PIPE,
                stdout=PIPE,
                stderr=output,
                env={LIBRARY_PATH: self.environment[LIBRARY_PATH]} if LIBRARY_PATH in self.environment else {},
                start_new_session=True,  # Ctrl-C in a terminal is the agent's to answer
            )
        finally:
            os.close(output)

    async def _end(self, process: Process, pid: int | None) -> None:
        """Close the watchdog pipe and see the launcher out; make up for one that was killed."""
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        last_words = b""
        try:
            async with asyncio.timeout(self.grace_s + END_MARGIN_S):
                last_words = await process.stdout.read()
                await process.wait()
        except TimeoutError:
            logger.error("launcher (pid %d) of child %s does not end; killing both", process.pid, pid)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if pid is not None and b"done" not in last_words:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)


async def _give_order(process: Process, order: bytes, program: str, log: Path) -> int:
    """Tell the launcher what to run; the child's pid once it runs."""
    assert process.stdin is not None and process.stdout is not None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            with contextlib.suppress(ConnectionError):  # a launcher that died says so by its silence below
                process.stdin.write(order)
                await process.stdin.drain()
            answer = await process.stdout.readline()
    except TimeoutError as cause:
        message = f"no word from its launcher in {START_TIMEOUT_S:.0f} s; see {log}"
        raise LaunchFailed(errno.ETIMEDOUT, message, program) from cause
    match answer.split():
        case [b"pid", pid]:
            return int(pid)
        case [b"failed", number]:
            raise LaunchFailed(int(number), os.strerror(int(number)), program)
        case _:
            raise LaunchFailed(errno.EIO, f"its launcher ended before the program ran; see {log}", program)


def encode_order(argv: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """What `launch_child` reads: `COUNT NUL arguments… NUL NAME=VALUE…`. Raises ValueError for a NUL inside."""
    fields = [str(len(argv)), *argv, *(f"{name}={value}" for name, value in environment.items())]
    if any("\0" in field for field in fields):
        raise ValueError("an argument or environment value of a child contains a NUL character")
    return os.fsencode("\0".join(fields))


def child_environment(agent: Mapping[str, str], added: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: UNLESS_TOLD, PASSED_ON from the agent's, then `added`.

    A library path in `added` is searched first and the agent's after it, so that an engine that brings its own
    libraries still finds the host's CUDA.
    """
    environment = UNLESS_TOLD | {name: agent[name] for name in PASSED_ON if name in agent} | dict(added)
    if agent.get(LIBRARY_PATH) and added.get(LIBRARY_PATH):
        environment[LIBRARY_PATH] = f"{added[LIBRARY_PATH]}:{agent[LIBRARY_PATH]}"
    return environment


def open_log(log: Path) -> int:
    """Open `log` for appending, readable by its owner only; the caller closes the descriptor.

    A file above MAX_LOG_BYTES is kept as NAME.1, in place of an earlier one, and a new one begun.
    """
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_name(log.name + ".1"))
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.fchmod(output, 0o600)
    return output
