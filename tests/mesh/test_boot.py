"""A node that lost its disk, all but its key, comes back as a later life of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mesh.agents import RunningAgent, running_agents, until

pytestmark = pytest.mark.live


async def boot_seen_by(agent: RunningAgent, name: str) -> int:
    return next((node.boot for node in agent.node.footing.gossip.view.nodes if node.name == name), 0)


async def test_a_lost_boot_number_is_healed_by_the_reply_to_a_join(tmp_path: Path) -> None:
    async with running_agents(tmp_path) as agents:
        founder = await agents.start("founder")
        for _ in range(3):
            member = await agents.start("member", await founder.token())
            await until(lambda: _sees(founder), "the founder sees the member")
            await agents.stop(member)
            (member.directory.root / "mesh").unlink()
        before = await boot_seen_by(founder, "member")
        assert before >= 3

        (member.directory.root / "boot").unlink()
        again = await agents.start("member", await founder.token())
        assert again.node.footing.identity.boot > before
        assert int(again.directory.read("boot") or b"0") == again.node.footing.identity.boot
        await until(lambda: _sees(founder), "the founder sees the member again")
        assert await boot_seen_by(founder, "member") == again.node.footing.identity.boot


async def _sees(agent: RunningAgent) -> bool:
    return (await agent.peers()).get("member") == "alive"
