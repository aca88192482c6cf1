"""A hundred megabytes echoed through tunnels between hosts whose cables are pulled for a while."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.netns.namespaces import Namespace, switched

MODULE = "tests.transport.tunnel_process"
PORT = 7842
TOTAL_BYTES = 100 << 20
WAIT_S = 280.0


@dataclass(frozen=True, slots=True)
class Case:
    """How long a tunnel's link is cut, and whether it may use a bulk lane."""

    cut_s: float
    bulk: str


# The last hundredths of a tunnel's ten seconds are shown in virtual time (transport/test_tunnel.py).
CASES = (Case(1.0, "on"), Case(5.0, "on"), Case(7.0, "off"), Case(14.0, "on"))


@contextlib.asynccontextmanager
async def running(host: Namespace, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    command = host.command(sys.executable, "-m", MODULE, *arguments)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.readline()


async def until_echoed(process: asyncio.subprocess.Process, count: int) -> None:
    while int(await said(process)) < count:
        pass


async def last_words(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdin is not None
    process.stdin.close()
    while (line := await said(process)) and not line.startswith(b"{"):
        pass
    answer: dict[str, Any] = json.loads(line)
    return answer


async def echoed_through_a_cut(near: Namespace, far: Namespace, case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    """What both ends say after it: the one that sent, and the one that echoed."""
    async with (
        asyncio.timeout(WAIT_S),
        running(far, "serve", f"{far.host}:{PORT}", case.bulk) as service,
    ):
        server = f"{far.host}:{int(await said(service))}"
        async with running(near, "echo", f"{near.host}:{PORT}", case.bulk, server, str(TOTAL_BYTES)) as sender:
            await until_echoed(sender, TOTAL_BYTES // 4)
            far.unplug()
            await asyncio.sleep(case.cut_s)
            far.plug_in()
            return await last_words(sender), await last_words(service)


@pytest.mark.usefixtures("can_make_namespaces")
@pytest.mark.timeout(300)
async def test_hundred_megabytes_survive_cuts_of_seconds_and_one_that_lasts_ends_in_an_error() -> None:
    with switched(2 * len(CASES)) as hosts:
        async with asyncio.TaskGroup() as group:  # side by side: a tunnel that waits costs no time
            tasks = [
                group.create_task(echoed_through_a_cut(hosts[2 * number], hosts[2 * number + 1], case))
                for number, case in enumerate(CASES)
            ]
    *mended, (near, far) = (task.result() for task in tasks)
    for case, (sent, echoed) in zip(CASES, mended, strict=False):
        assert sent["is_whole"] and not sent["failures"], (case, sent, echoed)
        assert echoed == {"accepted": 1, "broken": 0, "endings": []}, case
    assert not near["is_whole"] and sum(near["failures"].values()) == 1
    assert (far["accepted"], far["broken"], len(far["endings"])) == (1, 1, 1)
    failures = {*near["failures"], *far["endings"]}
    assert "Unreachable" in failures and failures <= {"Unreachable", "StreamReset", "ServiceRefused"}
