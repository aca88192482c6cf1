"""Real agents elect a host, and vote for it: also when it is stopped in mid-term and wakes up as the second."""

from __future__ import annotations

import os
import signal
from typing import Any

from meshd.local_agents import LocalAgents

PATIENCE_S = 60.0
SERVES = ("--model", "echo:parrot", "--quorum", "parrot")
RESOURCE = "host/parrot"


def claim(status: dict[str, Any]) -> tuple[str, int]:
    """Who hosts, and in which term."""
    found = [(one["host"], one["term"]) for one in status["claims"] if one["resource"] == RESOURCE]
    return found[0] if found else ("", 0)


def votes(status: dict[str, Any]) -> int:
    """How many members agree that this node hosts."""
    return next((int(one["granted"]) for one in status["leases"]["quorum"]), 0)


async def test_a_stopped_host_is_succeeded_by_vote_and_knows_it_when_it_wakes(agents: LocalAgents) -> None:
    async with agents.start("first", SERVES) as first:
        await first.until(lambda now: claim(now)[0] == "first", PATIENCE_S)  # before another could
        token = await first.token("member", uses=2)
        async with (
            agents.start("second", (*SERVES, "--join", token)) as second,
            agents.start("third", ("--join", token)) as third,
        ):
            before = await first.until(lambda now: claim(now)[0] == "first" and votes(now) == 3, PATIENCE_S)
            _, term = claim(before)
            granted = (await third.status())["leases"]["granted"]
            assert [(one["host"], one["purpose"], one["term"]) for one in granted] == [("first", "vote", term)]

            os.kill(first.child.pid, signal.SIGSTOP)
            try:
                after = await second.until(lambda now: claim(now)[0] == "second" and votes(now) == 2, PATIENCE_S)
                assert claim(after)[1] > term
                granted = (await third.status())["leases"]["granted"]
                assert [one["host"] for one in granted] == ["second"]
            finally:
                os.kill(first.child.pid, signal.SIGCONT)

            assert votes(await first.status()) <= 1  # its leases ran out while it slept
            await first.until(lambda now: claim(now)[0] == "second" and not now["host"], PATIENCE_S)
            await second.until(lambda now: votes(now) == 3, PATIENCE_S)


async def test_terms_go_on_after_the_only_host_has_restarted(agents: LocalAgents) -> None:
    terms = []
    for _ in range(2):
        async with agents.start("first", ("--model", "echo:parrot")) as first:
            terms.append(claim(await first.until(lambda now: now["host"], PATIENCE_S))[1])
    assert terms == sorted(set(terms))
