"""Everything in this folder is `live` and needs root; where it cannot run it is skipped and says why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.local_agents import LocalAgents, local_agents
from tests.netns import namespaces, tap_bridge
from tests.netns.namespaces import Namespace, switched
from tests.netns.tap_bridge import TapBridge, wired


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.live)


@pytest.fixture(scope="session")
def can_make_namespaces() -> None:
    """Skip with the reason where namespaces cannot be made; sweep what killed runs left."""
    reason = namespaces.why_not()
    if reason is not None:
        pytest.skip(reason)
    namespaces.remove_stale()


@pytest.fixture
def segment(can_make_namespaces: None) -> Iterator[list[Namespace]]:
    """Three hosts on one unimpaired Ethernet segment."""
    with switched(3) as hosts:
        yield hosts


@pytest.fixture
def wire(can_make_namespaces: None) -> Iterator[tuple[Namespace, Namespace, TapBridge]]:
    """Two hosts and the wire between them, which can be made bad."""
    reason = tap_bridge.why_not()
    if reason is not None:
        pytest.skip(reason)
    with wired() as ends:
        yield ends


@pytest.fixture
def agents(tmp_path: Path) -> LocalAgents:
    """Starts agents whose folders vanish with the test; `test_agents.on` puts them on a host."""
    return local_agents(tmp_path)
