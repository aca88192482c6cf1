"""CPU time of many engines in one process: `python -m bench.gossip_speed [--nodes 200] [--seconds 60] [--json]`.

The real engine and link rules under the simulator's clock, on one core. All start at once with one introducer;
then each changes a fact every ten seconds. CPU time rather than wall time, since others use the machine too.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from functools import partial

from gossip.event import LocalUpdate
from gossip.simulator.host import Host
from gossip.simulator.network import Conditions
from gossip.simulator.world import Settings, World

JOINING_S = 30.0
FACT_EVERY_S = 10.0


def main() -> None:
    """Print one line, or one object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    world = World(1, Settings(Conditions(), with_trace=False))
    hosts = [world.add(f"n{number}") for number in range(options.nodes)]
    joining_s = _cpu_s(partial(_join, world, hosts))
    # What stands now stays: looking through it again and again is a tenth of the time.
    gc.freeze()
    running_s = _cpu_s(partial(_run, world, hosts, options.seconds))
    if options.json:
        print(json.dumps({"nodes": options.nodes, "joining_cpu_s": joining_s, "running_cpu_s": running_s}))
    else:
        print(f"{options.nodes} nodes: joining and {JOINING_S:.0f} s took {joining_s:.1f} s of CPU,", end=" ")
        print(f"{options.seconds:.0f} s with facts {running_s:.1f} s")


def _join(world: World, hosts: list[Host]) -> None:
    world.start(hosts[0])
    for host in hosts[1:]:
        world.start(host, [hosts[0]])
    world.run(JOINING_S)


def _run(world: World, hosts: list[Host], seconds: float) -> None:
    for index, host in enumerate(hosts):
        world.agenda.after(FACT_EVERY_S * index / len(hosts), partial(_change_fact, world, host, 0))
    world.run(seconds)


def _change_fact(world: World, host: Host, count: int) -> None:
    world.tell(host, LocalUpdate("load", b"%d" % count))
    world.agenda.after(FACT_EVERY_S, partial(_change_fact, world, host, count + 1))


def _cpu_s(work: partial[None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
