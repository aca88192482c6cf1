"""8: real processes over QUIC prove their compute to one another; who cheats is refused, and so is who slanders."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from meshd.cli.poc_race import judge_kept
from meshd.control import CommandFailed
from meshd.local_agents import LocalAgent, LocalAgents

PATIENCE_S = 90.0


async def race(agent: LocalAgent, work_s: float) -> dict[str, Any]:
    """Call a race at `agent`, and wait for its end."""
    now = await agent.call("poc_race", preset="tiny", work_s=work_s)
    async with asyncio.timeout(PATIENCE_S):
        while now["state"] in ("agreeing", "racing"):
            await asyncio.sleep(0.1)
            now = await agent.call("poc_progress")
    return now


async def file_of(agent: LocalAgent, transcript: str) -> Path:
    """The file of a transcript at `agent`, once it has heard of it."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(CommandFailed):
                return Path((await agent.call("poc_transcript", digest=transcript))["path"])
            await asyncio.sleep(0.2)


def judged(path: Path) -> dict[str, Any]:
    report = judge_kept(path.read_bytes())
    assert report is not None
    return report


def connected(count: int) -> Any:
    return lambda now: sum(link["state"] == "connected" for link in now["links"]) >= count


async def test_two_agents_attest_each_other_and_anybody_may_check(agents: LocalAgents) -> None:
    async with agents.start("one") as one:
        token = await one.token("member")
        async with agents.start("other", ("--join", token)) as other:
            await one.until(connected(1), PATIENCE_S)
            over = await race(one, 2.0)
            assert (over["state"], over["reason"], over["absent"], over["refused"]) == ("over", "", {}, {})
            assert [found["verdict"] for found in over["attestations"]] == ["attested"] * 2
            assert all(found["flop_per_s"] > 0 and found["mismatches"] == 0 for found in over["attestations"])
            for found in over["attestations"]:
                assert judged(await file_of(other, found["transcript"]))["is_confirmed"]
