"""Everything in this folder is `live`, and starts its agents below a temporary folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshd.local_agents import LocalAgents, local_agents


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.live)


@pytest.fixture
def agents(tmp_path: Path) -> LocalAgents:
    """Starts agents whose folders vanish with the test."""
    return local_agents(tmp_path)
