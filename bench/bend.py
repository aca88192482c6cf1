"""Does bend choose right? A mix of small and large calls on two real nodes of unlike speed: `python -m bench.bend`.

Every call of the mix is run at each place by name, which is the oracle, and once by bend; in rounds, so that what else
the machine does hits all alike. Right is a choice of the place whose median was smaller; a choice is as good as right
when the other place was no more than a tenth faster. The places are agents of this machine; one is slowed down.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from bench.row import Row
from meshd.control import ControlClient
from meshd.local_agents import LocalAgent, LocalAgents, local_agents

SLOWNESS = 3.0
"""Of the node that asks."""
AS_GOOD = 1.1
GOAL = 0.95
DEADLINE_S = 300.0
START_S = 120.0


def shake(count: int) -> bytes:
    """Digests of 16 bytes each."""
    return struct.pack("<4sIII", b"BSHK", 32, count, 16) + Random(count).randbytes(16 * count)


def sort(count: int) -> bytes:
    """Numbers to sort."""
    return struct.pack("<4sIQ", b"BSRT", 0, count) + Random(count).randbytes(8 * count)


def multiply(count: int) -> bytes:
    """Products of 256 bits, modulo a prime."""
    prime = (2**255 - 19).to_bytes(32, "little")
    return struct.pack("<4sIII", b"BCGB", 5, 256, count) + prime + Random(count).randbytes(64 * count)


def power(count: int) -> bytes:
    """Powers of 1,024 bits, modulo an odd number: much work for few bytes."""
    modulus = Random(7).randbytes(127) + b"\x81"
    return struct.pack("<4sIII", b"BCGB", 7, 1024, count) + b"\x81" + modulus[1:] + Random(count).randbytes(256 * count)


def points(count: int) -> bytes:
    """Multiples of the generator of secp256k1."""
    return struct.pack("<4sI", b"BSCP", count) + bytes(64) + Random(count).randbytes(32 * count)


def text_sort(count: int) -> bytes:
    """Numbers to sort, in text."""
    dice = Random(count)
    return f"(cuda-radix-sort '({' '.join(str(dice.getrandbits(40)) for _ in range(count))}))".encode()


Write = Callable[[int], bytes]

MIX: tuple[tuple[str, Write, Sequence[int]], ...] = (
    ("shake", shake, (1, 100, 1_000, 30_000, 300_000, 1_000_000)),
    ("sort", sort, (1, 1_000, 100_000, 1_000_000, 4_000_000)),
    ("mod-mul", multiply, (1, 100, 10_000, 200_000)),
    ("mod-pow", power, (1, 100, 400, 1_000)),
    ("points", points, (1, 200, 3_000, 30_000)),
    ("sort in text", text_sort, (1, 1_000, 30_000, 300_000)),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One call of the mix."""

    name: str
    payload: bytes


@dataclass(slots=True)
class Outcome:
    """Seconds of a case at each place, and what bend chose."""

    case: Case
    seconds: dict[str, list[float]] = field(default_factory=dict)
    chosen: list[str] = field(default_factory=list)

    def best(self) -> str:
        """The place with the smaller median."""
        return min(self.seconds, key=lambda place: statistics.median(self.seconds[place]))

    def ratio(self) -> float:
        """The slower place's median over the faster one's."""
        medians = sorted(statistics.median(one) for one in self.seconds.values())
        return medians[-1] / medians[0]

    def right(self) -> int:
        """How often bend chose the best."""
        return self.chosen.count(self.best())

    def as_good(self) -> int:
        """How often it chose the best, or one that is hardly slower."""
        return len(self.chosen) if self.ratio() <= AS_GOOD else self.right()


def cases(is_short: bool) -> list[Case]:
    """The mix; a short one has the two ends of every form."""
    return [
        Case(f"{name} {size:,}", write(size))
        for name, write, sizes in MIX
        for size in ((sizes[0], sizes[-1]) if is_short else sizes)
    ]


@asynccontextmanager
async def two_nodes(agents: LocalAgents, slowness: float) -> AsyncIterator[tuple[LocalAgent, LocalAgent]]:
    """A slow node, which asks, and one at full speed; both have measured their forms."""
    slow = replace(agents, environment={"MESHD_FORM_SLOWNESS": str(slowness)})
    async with slow.start("near") as near:
        token = await near.token("member")
        async with agents.start("far", ["--join", token]) as far:
            await near.until(is_linked, START_S)
            await measured(near, 2)
            yield near, far


def is_linked(status: dict[str, Any]) -> bool:
    """Whether all others are there, with a known distance."""
    return bool(status["peers"]) and all(
        peer["state"] == "alive" and peer["rtt_ms"] is not None for peer in status["peers"]
    )


async def measured(agent: LocalAgent, count: int) -> None:
    """Wait until so many nodes have said what their forms cost."""
    await call(agent, b"(bend (cuda-radix-sort '(2 1)))")
    await agent.until(
        lambda status: len(status["forms"]) >= 5 and all(len(one["nodes"]) >= count for one in status["forms"]), START_S
    )


async def call(agent: LocalAgent, payload: bytes, on: str = "") -> bytes:
    """The reply to a call, from there or from wherever it finishes first."""
    client = ControlClient(agent.directory / "control.sock", DEADLINE_S)
    reply, _ = await asyncio.to_thread(client.post, "form_call", payload, **({"on": on} if on else {}))
    return reply


async def compared(asker: LocalAgent, places: Sequence[str], mix: Sequence[Case], rounds: int) -> list[Outcome]:
    """Run the mix everywhere and by bend; replies have to be alike to the byte. The first round is not counted."""
    outcomes = [Outcome(case) for case in mix]
    dice = Random(rounds)
    for number in range(rounds + 1):
        for outcome in dice.sample(outcomes, len(outcomes)):
            # Whoever comes first finds the caches cold, so each is first as often as the others.
            await _round(asker, dice.sample([*places, ""], len(places) + 1), outcome, is_counted=number > 0)
    return outcomes


async def _round(asker: LocalAgent, order: Sequence[str], outcome: Outcome, *, is_counted: bool) -> None:
    """order: of the places; the empty one is bend."""
    replies = set()
    for place in order:
        began = time.perf_counter()
        replies.add(await call(asker, outcome.case.payload, place))
        seconds = time.perf_counter() - began
        if place and is_counted:
            outcome.seconds.setdefault(place, []).append(seconds)
        elif is_counted:
            outcome.chosen.append((await asker.call("form_costs"))["calls"][-1]["place"])
    if len(replies) != 1:
        raise SystemExit(f"{outcome.case.name}: the places do not reply alike")


def share(outcomes: Sequence[Outcome], count: Callable[[Outcome], int]) -> float:
    """Of all choices."""
    return sum(map(count, outcomes)) / sum(len(outcome.chosen) for outcome in outcomes)


def rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """As `--json` prints them: the shares of right choices, then each case's median at the asker beside the other's."""
    shares = (("right", Outcome.right), ("as-good", Outcome.as_good))
    found = []
    for name, count in shares:
        part = share(outcomes, count)
        found.append(asdict(Row(f"bend-{name}", part, 1.0, "oracle", part, "share", "higher", GOAL)))
    for one in outcomes:
        near, far = (statistics.median(one.seconds[place]) * 1e3 for place in ("near", "far"))
        row = Row(one.case.name, near, far, "far", near / far, "ms", "lower", 1.0)
        found.append(asdict(row) | {"right": one.right(), "choices": len(one.chosen)})
    return found


def _show(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        medians = "  ".join(f"{place} {statistics.median(one) * 1e3:9.2f} ms" for place, one in outcome.seconds.items())
        print(f"{outcome.case.name:<24} {medians}  right {outcome.right()}/{len(outcome.chosen)}", flush=True)
    print(f"right {share(outcomes, Outcome.right):.3f}, as good as right {share(outcomes, Outcome.as_good):.3f}")


async def main() -> None:
    """Start two agents, run the mix, print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--slowness", type=float, default=SLOWNESS)
    parser.add_argument("--short", action="store_true", help="the ends of the mix only")
    parser.add_argument("--json", action="store_true", dest="as_json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        async with two_nodes(local_agents(Path(folder)), options.slowness) as (near, _):
            outcomes = await compared(near, ("near", "far"), cases(options.short), options.rounds)
    if options.as_json:
        machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        print(json.dumps({"name": "bend", "machine": machine, "rows": rows(outcomes)}))
    else:
        _show(outcomes)


if __name__ == "__main__":
    asyncio.run(main())
