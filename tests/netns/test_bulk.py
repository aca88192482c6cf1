"""A blob between two hosts over a bad wire: on a bulk lane, without one where TCP is blocked, through a cut."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.netns.namespaces import Namespace
from tests.netns.tap_bridge import TapBridge
from transport.impairment import Conditions, Rate

Wire = tuple[Namespace, Namespace, TapBridge]

WAIT_S = 90.0
MODULE = "tests.transport.blob_fetcher"
PORT = 7842
IPV4, TCP = b"\x08\x00", 6


@contextlib.asynccontextmanager
async def running(host: Namespace, *arguments: str) -> AsyncIterator[asyncio.StreamReader]:
    """A process on `host`; what it prints."""
    command = host.command(sys.executable, "-m", MODULE, *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield process.stdout
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Transfer:
    """A file on one host, and what the fetching process on the other says."""

    def __init__(self, said: asyncio.StreamReader, path: Path, digest: str) -> None:
        self._said = said
        self._path = path
        self._digest = digest

    async def at_least(self, size: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while int(await self._said.readline()) < size:
                pass

    async def carrier_of_the_whole(self) -> str:
        async with asyncio.timeout(WAIT_S):
            carrier = (await self._said.read()).split()[-1].decode()
        assert hashlib.sha256(self._path.read_bytes()).hexdigest() == self._digest
        return carrier


@contextlib.asynccontextmanager
async def transfer(wire: Wire, folder: Path, size: int) -> AsyncIterator[Transfer]:
    here, there, _ = wire
    data = os.urandom(size)
    (folder / "model").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    async with running(there, "serve", f"{there.host}:{PORT}", str(folder / "model")) as serving:
        async with asyncio.timeout(WAIT_S):
            assert int(await serving.readline()) == PORT
        server = f"{there.host}:{PORT}"
        async with running(here, "fetch", "0.0.0.0:0", server, str(folder / "here"), digest) as said:
            yield Transfer(said, folder / "here" / digest, digest)


async def test_lane_opens_and_carries_over_a_slow_lossy_wire(wire: Wire, tmp_path: Path) -> None:
    bad = Conditions(delay_s=0.02, loss=0.005)
    wire[2].change(bad, bad)
    async with transfer(wire, tmp_path, 8 << 20) as moving:
        assert await moving.carrier_of_the_whole() == "quic+bulk"


async def test_blocked_tcp_leaves_everything_to_quic(wire: Wire, tmp_path: Path) -> None:
    _, _, bridge = wire
    blocked = block_tcp(bridge)
    async with transfer(wire, tmp_path, 4 << 20) as moving:
        assert await moving.carrier_of_the_whole() == "quic"
    assert blocked, "nobody tried TCP"


def block_tcp(bridge: TapBridge) -> list[float]:
    """Let no TCP packet to the second host through, without a word; when each was dropped."""
    blocked: list[float] = []
    carry = bridge._there.carry

    def without_tcp(frame: bytes, arrive: object) -> None:
        if frame[12:14] == IPV4 and frame[23] == TCP:
            blocked.append(time.monotonic())
        else:
            carry(frame, arrive)  # type: ignore[arg-type]

    bridge._there.carry = without_tcp  # type: ignore[method-assign, assignment]
    return blocked


@pytest.mark.parametrize("cut_s", [2.0, 7.0])
async def test_transfer_goes_on_after_a_cut(wire: Wire, tmp_path: Path, cut_s: float) -> None:
    _, _, bridge = wire
    slow = Conditions(rate=Rate(4_000_000))
    bridge.change(slow, slow)
    async with transfer(wire, tmp_path, 24 << 20) as moving:
        await moving.at_least(4 << 20)
        bridge.cut()
        await asyncio.sleep(cut_s)
        bridge.mend()
        assert (await moving.carrier_of_the_whole()).startswith("quic")
