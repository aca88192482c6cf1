"""The real ggml-rpc-server: started, greeted, told apart by its build, and gone with whoever owns it."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
from pathlib import Path

import psutil
import pytest

from llm.engines.interface import EngineFailed
from llm.engines.llama_binary import EngineMissing, find_rpc_server
from llm.engines.rpc_hello import HELLO, NoRpcServer, greet
from llm.engines.rpc_server import RpcServerOptions, running_rpc_server
from llm.split.build import EngineBuild, read_build, why_not_together
from meshd.launcher import ProcessLauncher
from transport.interface import Address

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

LAUNCHER = ProcessLauncher(os.environ)
OURS = EngineBuild("0.25.3", "0c1e570", 101)


async def test_it_says_what_it_is_and_listens_on_loopback_only(tmp_path: Path) -> None:
    async with running_rpc_server(RpcServerOptions(tmp_path / "rpc.log"), LAUNCHER) as server:
        process = psutil.Process(server.child.pid)
        listening = [entry.laddr for entry in process.net_connections("tcp") if entry.status == psutil.CONN_LISTEN]

        assert server.greeting.version[0] >= 1
        assert len(server.greeting.device_bytes) == 1 and server.greeting.device_bytes[0] > 1 << 28
        assert [tuple(one) for one in listening] == [("127.0.0.1", server.address.port)]
        assert (await greet(server.address, 5)).version == server.greeting.version

    assert not psutil.pid_exists(server.child.pid)


async def test_its_death_is_told_with_the_signal(tmp_path: Path) -> None:
    async with running_rpc_server(RpcServerOptions(tmp_path / "rpc.log"), LAUNCHER) as server:
        os.kill(server.child.pid, signal.SIGKILL)
        assert "SIGKILL" in await server.ended()


async def test_an_unknown_device_is_told_by_its_last_words(tmp_path: Path) -> None:
    options = RpcServerOptions(tmp_path / "rpc.log", device="NOSUCH")
    with pytest.raises(EngineFailed, match=r"No devices found|NOSUCH"):
        async with running_rpc_server(options, LAUNCHER):
            pass


async def test_who_is_no_rpc_server_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NoRpcServer, match="no RPC server answers"):
        await greet(Address("127.0.0.1", 9), 5)


async def test_the_build_is_read_from_the_engines_own_libraries(tmp_path: Path) -> None:
    build = await read_build(None, LAUNCHER, tmp_path / "build.log")

    assert build.ggml.count(".") == 2 and build.commit
    assert 80 < build.operations < 1000


def test_an_engine_without_its_rpc_server_is_named(tmp_path: Path) -> None:
    lonely = tmp_path / "llama-server"
    lonely.write_text("#!/bin/sh\n")
    lonely.chmod(0o700)
    with pytest.raises(EngineMissing, match=r"no ggml-rpc-server beside .*llama-server.*GGML_RPC=ON"):
        find_rpc_server(lonely)


@pytest.mark.parametrize(
    ("theirs", "fits"),
    [
        (OURS, True),
        (EngineBuild("0.25.3", "fedcba9", 101), True),
        (EngineBuild("0.25.4", "0c1e570", 101), False),
        (EngineBuild("0.25.3", "0c1e570", 102), False),
    ],
)
def test_builds_of_other_versions_or_operations_do_not_work_together(theirs: EngineBuild, fits: bool) -> None:
    reason = why_not_together(OURS, theirs)

    assert (reason == "") is fits
    if not fits:
        assert str(OURS) in reason and str(theirs) in reason


async def test_it_gets_no_more_memory_than_it_may_have(tmp_path: Path) -> None:
    options = RpcServerOptions(tmp_path / "rpc.log", device="CPU", data_limit_bytes=256 << 20)
    async with running_rpc_server(options, LAUNCHER) as server:
        assert await allocated(server.address, 64 << 20)
        assert not await allocated(server.address, 1 << 30)


async def allocated(address: Address, size: int) -> bool:
    """Whether the server gives a buffer of that size (RPC_CMD_ALLOC_BUFFER)."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(struct.pack("<BQ", HELLO, 24) + bytes(24) + struct.pack("<BQIQ", 0, 12, 0, size))
        await reader.readexactly(8 + 28)
        _, pointer, _ = struct.unpack("<QQQ", await reader.readexactly(24))
        return bool(pointer)
    finally:
        writer.close()
