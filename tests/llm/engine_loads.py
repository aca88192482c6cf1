"""Loads a model into the real llama-server, alone or with RPC servers beside it, and keeps what it said meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path

from llm.engines.llama_binary import find_llama_server
from llm.engines.llama_server import LISTENING
from tests.ports import free_port

ALWAYS = ("--host", "127.0.0.1", "--port", "0", "--offline", "--no-webui", "--no-warmup")
SAID = ("--log-colors", "off", "--verbosity", "4")
LOAD_TIMEOUT_S = 120.0
LOOK_S = 0.02


class LoadFailed(Exception):
    """The engine ended, or did not finish loading in time; with the end of its log."""


def load(model: Path, arguments: tuple[str, ...], folder: Path) -> tuple[str, list[str]]:
    """Load `model`, end the engine, and return its log and its command line. Raises LoadFailed."""
    binary = find_llama_server()
    argv = [str(binary.path), "--model", str(model), *ALWAYS, *SAID, *arguments]
    with _running(argv, subprocess.PIPE) as engine:
        said = _said_until_it_listens(engine)
    (folder / "engine.log").write_text(said)
    return said, argv


def _said_until_it_listens(engine: subprocess.Popen[bytes]) -> str:
    """Raises LoadFailed when it ends before, or is ended for being late."""
    assert engine.stdout is not None
    late = threading.Timer(LOAD_TIMEOUT_S, engine.kill)
    late.start()
    try:
        said = ""
        for line in engine.stdout:
            said += line.decode(errors="replace")
            if "listening on" in said:
                return said
        raise LoadFailed(said[-2000:])
    finally:
        late.cancel()


@contextlib.asynccontextmanager
async def serving(model: Path, arguments: tuple[str, ...], folder: Path) -> AsyncIterator[str]:
    """The URL of an engine that has loaded `model`. Raises LoadFailed."""
    binary = find_llama_server()
    argv = [str(binary.path), "--model", str(model), *ALWAYS, *SAID, *arguments]
    log = folder / "serving.log"
    with log.open("wb") as out, _running(argv, out.fileno()) as engine:
        deadline = time.monotonic() + LOAD_TIMEOUT_S
        while (found := LISTENING.search(log.read_text(errors="replace"))) is None:
            if engine.poll() is not None or time.monotonic() > deadline:
                raise LoadFailed(log.read_text(errors="replace")[-2000:])
            await asyncio.sleep(LOOK_S)
        yield f"http://127.0.0.1:{found[1]}"


@contextlib.contextmanager
def rpc_servers(count: int, folder: Path, threads: int = 2) -> Iterator[list[str]]:
    """Addresses of `count` fresh `ggml-rpc-server`s on loopback."""
    program = find_llama_server().path.with_name("ggml-rpc-server")
    with contextlib.ExitStack() as stack:
        ports = [free_port() for _ in range(count)]
        for port in ports:
            out = stack.enter_context((folder / f"rpc-{port}.log").open("wb"))
            stack.enter_context(
                _running([str(program), "-H", "127.0.0.1", "-p", str(port), "-t", str(threads)], out.fileno())
            )
        for port in ports:
            _wait_for(port)
        yield [f"127.0.0.1:{port}" for port in ports]


@cache
def gpu_devices() -> int:
    """How many GPUs the engine sees; 0 for a CPU build."""
    binary = find_llama_server()
    listed = subprocess.run([str(binary.path), "--list-devices"], env=_environment(), capture_output=True, text=True)
    return sum(line.strip().startswith(("CUDA", "ROCm", "Vulkan", "Metal")) for line in listed.stdout.splitlines())


def _environment() -> dict[str, str]:
    library_dir = find_llama_server().library_dir
    return dict(os.environ) if library_dir is None else {**os.environ, "LD_LIBRARY_PATH": str(library_dir)}


@contextlib.contextmanager
def _running(argv: list[str], out: int) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, env=_environment()) as child:
        try:
            yield child
        finally:
            child.kill()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + LOAD_TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_S)
