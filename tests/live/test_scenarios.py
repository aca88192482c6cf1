"""Every scenario that a person can watch holds: `just scenario NAME`. test_resilience runs the longest, in parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshd.local_agents import LocalAgents
from tools.scenarios.__main__ import names, perform
from tools.scenarios.stage import Stage


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", [name for name in names() if name != "resilience"])
async def test_what_the_scenario_shows_held(name: str, agents: LocalAgents, tmp_path: Path) -> None:
    await perform(name, Stage(agents, tmp_path, print))
