"""8: real processes over QUIC prove their compute to one another; who cheats is refused, and so is who slanders."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from forms.poc.cheats import CHEATS
from forms.poc.profile import TINY
from forms.poc.threads import THREAD_SETTINGS
from meshd.attest.races import SHARE
from meshd.cli.poc_race import judge_kept
from meshd.control import CommandFailed
from meshd.local_agents import LocalAgent, LocalAgents
from tests.live.poc_adversary import DENSE, SLOW, SLOW_S

PATIENCE_S = 150.0
REPOSITORY = Path(__file__).parents[2]
SILENT = ("--no-mdns",)


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


def shuts_out(name: str) -> Any:
    return lambda now: any(peer["name"] == name and peer["poc"]["quarantine"] for peer in now["peers"])


async def test_two_agents_attest_each_other_and_anybody_may_check(agents: LocalAgents) -> None:
    async with agents.start("one") as one:
        token = await one.token("member")
        async with agents.start("other", ("--join", token, "--trust", "attested")) as other:
            await one.until(connected(1), PATIENCE_S)
            unproved = await other.until(connected(1), PATIENCE_S)
            assert [(peer["poc"]["believed"], peer["poc"]["attested_tflops"]) for peer in unproved["peers"]] == [
                (0, None)
            ]
            over = await race(one, 5.0)
            assert (over["state"], over["reason"], over["absent"], over["refused"]) == ("over", "", {}, {})
            assert [found["verdict"] for found in over["attestations"]] == ["attested"] * 2
            assert all(found["flop_per_s"] > 0 and found["mismatches"] == 0 for found in over["attestations"])
            proved = await other.until(lambda now: now["peers"][0]["poc"]["attested_tflops"], PATIENCE_S)
            assert proved["peers"][0]["poc"]["believed"] > 0
            assert proved["peers"][0]["poc"]["by"] == ["other"]
            for found in over["attestations"]:
                assert judged(await file_of(other, found["transcript"]))["is_confirmed"]


@asynccontextmanager
async def adversary(agents: LocalAgents, token: str, lie: str) -> AsyncIterator[None]:
    """A process that joins by `token` and lies; it ends with the block."""
    argv = [sys.executable, "-m", "tests.live.poc_adversary", str(agents.folder), "adversary", token, lie]
    log = agents.folder / "adversary.log"
    async with agents.launcher.start(argv, {"PYTHONPATH": str(REPOSITORY), **dict.fromkeys(THREAD_SETTINGS, "1")}, log):
        yield


async def test_every_cheat_of_a_live_process_is_refused(agents: LocalAgents) -> None:
    """Half a second each: what is caught hangs on the share of false ones among 64, not on how long it worked."""
    choice = agents.folder / "cheat"
    choice.write_text("")
    async with agents.start("honest", SILENT) as honest, adversary(agents, await honest.token("member"), "work"):
        await honest.until(connected(1), PATIENCE_S)
        own = (await honest.status())["node"]["id"]
        found: dict[str, dict[str, Any]] = {}
        for name in ("", SLOW, DENSE, *CHEATS):
            choice.write_text(name)
            over = await race(honest, 0.5)
            assert over["state"] == "over", over["reason"]
            (found[name],) = [one for one in over["attestations"] if one["prover"] != own] or [{"verdict": ""}]
        verdicts = {name: one["verdict"] for name, one in found.items()}
        assert verdicts == {"": "attested", SLOW: "attested", **dict.fromkeys((DENSE, *CHEATS), "fraud")}
        # Whatever a prover says of its time, its verifier's clock counts.
        assert found[SLOW]["taken_s"] >= SLOW_S
        assert found[SLOW]["flop_per_s"] * SLOW_S < TINY.operations * found[SLOW]["found"] / SHARE


async def test_a_slander_is_refuted_by_a_third_peer_and_costs_its_teller(agents: LocalAgents) -> None:
    async with agents.start("first", SILENT) as first:
        token = await first.token("member", uses=2)
        async with agents.start("third", ("--join", token, *SILENT)) as third, adversary(agents, token, "slander"):
            await first.until(connected(2), PATIENCE_S)
            await third.until(connected(2), PATIENCE_S)
            over = await race(first, 0.5)
            assert over["state"] == "over", over["reason"]
            for agent in (first, third):
                now = await agent.until(shuts_out("adversary"), PATIENCE_S)
                others = [peer for peer in now["peers"] if peer["name"] != "adversary"]
                assert all(not peer["poc"]["quarantine"] for peer in others)
