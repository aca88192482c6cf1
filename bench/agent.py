"""What an agent costs while nobody asks it anything: start to ready, resident memory, idle CPU.

`python -m bench.agent [--json] [--nodes N] [--seconds S] [--bind ADDRESS]`: N agents without a model in one mesh
on this machine. Bound to more than loopback (`--bind [::]:0`) they take part in mDNS, which loads its own library.
"Ready" is what the agent says of itself, counted from the start of its process. The bare minimum beside it is a
Python process that imports the same libraries and runs an idle event loop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil

from meshd.local_agents import LocalAgent, local_agents

READY = re.compile(r"ready in ([0-9.]+) s")
MINIMUM = (
    "import uvloop, uvicorn, starlette.applications, aioquic.quic.connection, msgpack, msgspec, psutil;"
    "uvicorn.Config(None, http='httptools').load;"
    "import time; print(time.time(), flush=True);"
    "import asyncio; asyncio.run(asyncio.sleep(3600))"
)


async def measure(nodes: int, seconds: float, bind: str) -> list[dict[str, Any]]:
    """Rows of `meshd bench`'s shape; medians over the agents."""
    with tempfile.TemporaryDirectory(prefix="meshd-bench-") as folder:
        async with AsyncExitStack() as stack:
            agents = local_agents(Path(folder))
            founder = await stack.enter_async_context(agents.start("founder", ["--bind", bind]))
            started = [founder]
            for number in range(nodes - 1):
                joins = ["--bind", bind, "--join", await founder.token("member")]
                started.append(await stack.enter_async_context(agents.start(f"member-{number}", joins)))
            await founder.until(lambda status: len(status["peers"]) == nodes - 1, 30)
            ready_s = statistics.median(_ready_s(agent) for agent in started)
            costs = await asyncio.to_thread(_idle_costs, [agent.child.pid for agent in started], seconds)
    minimum = await asyncio.to_thread(_minimum, seconds)
    return [
        _row("start-to-ready", ready_s, minimum[0], "s", 1.0),
        _row("idle-rss", costs[0], minimum[1], "MB", 80.0),
        _row("idle-cpu", costs[1], minimum[2], "% of a core", 1.0),
    ]


def _ready_s(agent: LocalAgent) -> float:
    found = READY.search(agent.log.read_text())
    assert found is not None, agent.log.read_text()
    return float(found[1])


def _idle_costs(pids: list[int], seconds: float) -> tuple[float, float]:
    """Median resident MB and median percent of a core over `seconds`."""
    processes = [psutil.Process(pid) for pid in pids]
    time.sleep(5)  # what starting left to do
    before = [_cpu_s(process) for process in processes]
    time.sleep(seconds)
    used = [_cpu_s(process) - cpu_s for process, cpu_s in zip(processes, before, strict=True)]
    resident = [process.memory_info().rss / 1e6 for process in processes]
    return statistics.median(resident), 100 * statistics.median(used) / seconds


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _minimum(seconds: float) -> tuple[float, float, float]:
    """Seconds until a bare process has imported the libraries, its resident MB, and percent of a core."""
    began = time.time()
    with subprocess.Popen([sys.executable, "-c", MINIMUM], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        imported_s = float(process.stdout.readline()) - began
        resident, cpu = _idle_costs([process.pid], seconds)
        process.terminate()
    return imported_s, resident, cpu


def _row(case: str, ours: float, baseline: float, unit: str, target: float) -> dict[str, Any]:
    return {
        "case": case,
        "ours": round(ours, 2),
        "baseline": round(baseline, 2),
        "baseline_name": "bare process with the same libraries",
        "ratio": round(ours / baseline, 2) if baseline else None,
        "unit": unit,
        "better": "lower",
        "target": target,
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to watch the idle agents")
    parser.add_argument("--bind", default="127.0.0.1:0", help="UDP address of each agent")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = asyncio.run(measure(arguments.nodes, arguments.seconds, arguments.bind))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    if arguments.json:
        print(json.dumps({"name": "agent", "machine": machine, "rows": rows}, indent=2))
        return
    for row in rows:
        print(f"{row['case']:<16}{row['ours']:>8}{row['baseline']:>8}  {row['unit']:<12} goal ≤ {row['target']}")


if __name__ == "__main__":
    main()
