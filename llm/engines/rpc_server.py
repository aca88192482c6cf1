"""Runs llama.cpp's `ggml-rpc-server`, a child on a loopback port: a part of some model, computed here for a leader.

It trusts whatever it is sent, so who may connect is for others to guard (`llm.split.worker`). Here are its start, its
port, what it says of itself and its end; whoever owns it decides whether it is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from llm.engines import child_log
from llm.engines.interface import Child, EngineFailed, Launcher
from llm.engines.llama_arguments import QUIET_ABORT
from llm.engines.llama_binary import EngineMissing, find_rpc_server
from llm.engines.rpc_hello import NoRpcServer, RpcGreeting, greet
from llm.engines.rpc_pulse import LOOK_PAUSE_S, LOOKS, hung
from transport.interface import Address

LOOPBACK = "127.0.0.1"
ANSWERED = "Accepted client connection"
LOOK_S = 0.03
GREET_S = 2.0
TRIES = 3
QUOTED_LINES = 3
HUNG = f"ggml-rpc-server has hung: for {LOOKS * LOOK_PAUSE_S:.0f} s it neither ran nor read what it was sent"


@dataclass(frozen=True, slots=True)
class RpcServerOptions:
    """How to run it. cache: keeps large tensors in its folder `rpc`; None keeps none.  device: None for every GPU,
    else the CPU.  threads: of the CPU device.  binary: the llama-server whose companion it is, None for the usual.
    data_limit_bytes: of its own memory (RLIMIT_DATA), for it takes as much as it is told to; None for no limit.
    """

    log: Path
    cache: Path | None = None
    threads: int = 1
    device: str | None = None
    binary: Path | None = None
    start_timeout_s: float = 60.0
    data_limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class RpcServer:
    """One that runs and has answered."""

    child: Child
    address: Address
    greeting: RpcGreeting
    options: RpcServerOptions

    async def ended(self) -> str:
        """Wait for its end, or until it has hung; how it came about. One that has hung is for the caller to end."""
        async with asyncio.TaskGroup() as group:
            dying = group.create_task(self.child.wait(), name=f"wait for pid {self.child.pid}")
            hanging = group.create_task(hung(self.child.pid, self.address), name=f"feel pid {self.child.pid}")
            await asyncio.wait((dying, hanging), return_when=asyncio.FIRST_COMPLETED)
            status = dying.result() if dying.done() else None
            dying.cancel()
            hanging.cancel()
        return HUNG if status is None else _describe_death(status, self.options.log)


def arguments(program: Path, port: int, options: RpcServerOptions) -> list[str]:
    """The command line."""
    argv = [str(program), "--host", LOOPBACK, "--port", str(port), "--threads", str(options.threads)]
    argv += ["--device", options.device] if options.device else []
    return argv + (["--cache"] if options.cache is not None else [])


@contextlib.asynccontextmanager
async def running_rpc_server(options: RpcServerOptions, launcher: Launcher) -> AsyncIterator[RpcServer]:
    """Run it until the context is left, which kills it: it has nothing to save. Raises EngineFailed."""
    async with contextlib.AsyncExitStack() as stack:
        yield await _start(stack, options, launcher)


async def _start(stack: contextlib.AsyncExitStack, options: RpcServerOptions, launcher: Launcher) -> RpcServer:
    """A few tries: it takes no port 0, so between our choice of a free one and its start another may have that."""
    reason = ""
    for _ in range(TRIES):
        async with contextlib.AsyncExitStack() as attempt:
            try:
                server = await _start_once(attempt, options, launcher)
            except (OSError, EngineMissing, TimeoutError) as error:
                raise EngineFailed(f"ggml-rpc-server did not start: {error}", retryable=True) from error
            if isinstance(server, RpcServer):
                stack.push_async_exit(attempt.pop_all())
                return server
            reason = server
    raise EngineFailed(f"ggml-rpc-server did not start: {reason}", retryable=True)


async def _start_once(
    stack: contextlib.AsyncExitStack, options: RpcServerOptions, launcher: Launcher
) -> RpcServer | str:
    """The server, or why it died. What was entered on `stack` is for the caller to leave."""
    binary = find_rpc_server(options.binary)
    env = dict(QUIET_ABORT)
    if binary.library_dir is not None:
        env["LD_LIBRARY_PATH"] = str(binary.library_dir)
    if options.cache is not None:
        env["LLAMA_CACHE"] = str(options.cache)
    address = Address(LOOPBACK, _free_port())
    log_start = child_log.size_bytes(options.log)
    child = await stack.enter_async_context(
        launcher.start(arguments(binary.path, address.port, options), env, options.log)
    )
    stack.callback(_kill, child.pid)
    _limit(child.pid, options.data_limit_bytes)
    async with asyncio.timeout(options.start_timeout_s), asyncio.TaskGroup() as group:
        dying = group.create_task(child.wait(), name=f"wait for pid {child.pid}")
        greeting = await _first_greeting(address, dying, options.log, log_start)
        dying.cancel()
        if greeting is None:
            return _describe_death(dying.result(), options.log)
    return RpcServer(child, address, greeting, options)


async def _first_greeting(address: Address, dying: asyncio.Task[int], log: Path, log_start: int) -> RpcGreeting | None:
    """What it says once it listens; None when it died. Its log shows that it was really this child who answered."""
    while not dying.done():
        with contextlib.suppress(NoRpcServer, TimeoutError):
            greeting = await greet(address, GREET_S)
            if ANSWERED in child_log.read_from(log, log_start):
                return greeting
        await asyncio.wait({dying}, timeout=LOOK_S)
    return None


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _limit(pid: int, data_bytes: int | None) -> None:
    if data_bytes is not None and sys.platform == "linux":
        with contextlib.suppress(ProcessLookupError):  # it died at once, which is told elsewhere
            resource.prlimit(pid, resource.RLIMIT_DATA, (data_bytes, data_bytes))


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _describe_death(status: int, log: Path) -> str:
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
    lines = child_log.last_lines(log, QUOTED_LINES)
    return f"ggml-rpc-server {how} (log: {log}); its last lines: {' | '.join(lines) or 'none'}"
