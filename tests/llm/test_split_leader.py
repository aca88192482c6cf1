"""A leader that waits for its workers' leases: as long as those who have not answered are there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from gossip.tenure import Hold, Lease
from llm.changes import Changes
from llm.engines.llama_arguments import LlamaServerOptions
from llm.residency import Makeup
from llm.split.build import EngineBuild
from llm.split.layout import Holder, Part, Split
from llm.split.leader import LEASE_WAIT_S, Leader, Means, SplitFailed, Undertaking
from meshd.launcher import ProcessLauncher
from tests.llm.views import FILE_A, node_id
from transport.interface import NodeId
from transport.memory import MemoryNetwork
from transport.tunnel import TunnelClient

ME, WORKER = node_id(1), node_id(2)
OPTIONS = LlamaServerOptions(Path("nothing.gguf"), "tiny", Path("nothing.log"))
SPLIT = Split((Part(Holder(ME, "me", 10, 0.0), 0.5, 5), Part(Holder(WORKER, "worker", 10, 0.0), 0.5, 5)))


class SilentKeeper:
    """Asks, and gets no lease."""

    def __init__(self) -> None:
        self.held: list[Hold] = []
        self.changes = Changes()

    def hold(self, hold: Hold) -> None:
        self.held.append(hold)

    def leases(self, resource: str) -> dict[NodeId, Lease]:
        return {}

    def refusals(self, resource: str) -> Mapping[NodeId, str]:
        return {}

    async def changed(self) -> None:
        await self.changes.wait()


async def lead(keeper: SilentKeeper, there: set[NodeId]) -> SplitFailed:
    """How leading fails."""
    transport = MemoryNetwork().transport(ME)
    means = Means(
        transport=transport,
        tunnels=TunnelClient(transport),
        keeper=keeper,
        launcher=ProcessLauncher(),
        build=EngineBuild("1", "cpu", 1),
        computes_in_ram=True,
        is_there=there.__contains__,
    )
    what = Undertaking("host/tiny", 1, FILE_A, 2, SPLIT, OPTIONS, (Makeup(),) * len(SPLIT.parts))
    with pytest.raises(SplitFailed) as failure:
        async with Leader(means, what, lambda words: None).leading():
            pass
    return failure.value


async def test_a_worker_that_goes_before_it_gives_a_lease_is_not_waited_for_and_may_be_asked_again() -> None:
    keeper, there = SilentKeeper(), {WORKER}
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as group:
        leading = group.create_task(lead(keeper, there))
        await asyncio.sleep(0)
        there.clear()
        keeper.changes.notify()
    assert loop.time() - began < LEASE_WAIT_S / 2
    assert "worker: it went away" in str(leading.result())
    assert leading.result().workers == {}
    assert [len(hold.workers) for hold in keeper.held] == [1, 0]  # asked, then let go
