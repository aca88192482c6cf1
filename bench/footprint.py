"""What the agents of a mesh cost while they run: processor, memory, bytes on the wire."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import psutil

from meshd.local_mesh import LocalMesh

SAMPLE_S = 5.0


@dataclass(frozen=True, slots=True)
class Footprint:
    """Medians over the agents. cpu_percent: of one core.  sent_per_s: bytes of UDP payload each sent."""

    cpu_percent: float
    resident_mb: float
    sent_per_s: float


@dataclass(slots=True)
class _Traffic:
    """Sums what the counters of connections say, which begin anew with each connection."""

    last: dict[str, int] = field(default_factory=dict)
    sent: int = 0

    def look(self, status: dict[str, Any]) -> None:
        for link in status["links"]:
            now, before = link["bytes_sent"], self.last.get(link["node"], 0)
            self.sent += now - before if now >= before else now
            self.last[link["node"]] = now


async def footprint(mesh: LocalMesh, seconds: float) -> Footprint:
    """Watch the running agents for that long."""
    agents = [mesh.agents[name] for name in mesh.running]
    processes = [psutil.Process(agent.child.pid) for agent in agents]
    traffic = [_Traffic() for _ in agents]
    cpu_before = [_cpu_s(process) for process in processes]
    began = time.monotonic()
    sent_before: list[int] = []
    while True:
        for agent, line in zip(agents, traffic, strict=True):
            line.look(await agent.status())
        sent_before = sent_before or [line.sent for line in traffic]
        left_s = began + seconds - time.monotonic()
        if left_s <= 0:
            break
        await asyncio.sleep(min(SAMPLE_S, left_s))
    took_s = time.monotonic() - began
    cpu = [_cpu_s(process) - before for process, before in zip(processes, cpu_before, strict=True)]
    sent = [line.sent - before for line, before in zip(traffic, sent_before, strict=True)]
    return Footprint(
        100 * statistics.median(cpu) / took_s,
        statistics.median(process.memory_info().rss / 1e6 for process in processes),
        statistics.median(sent) / took_s,
    )


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
