"""Sessions are counted by where they are, by what they take and by what drafts are worth."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from llm.sessions.stats import SessionStats
from meshd.metrics.sessions import session_metrics

STATS = SessionStats(
    open=9,
    resident=4,
    bounded=1,
    parked=5,
    active=2,
    cells=4096,
    used_cells=1024,
    live_bytes=1000,
    parked_bytes=5000,
    parkings=7,
    resumptions=3,
    said_tokens=100,
    drafted_tokens=60,
    accepted_tokens=48,
)


class Only(Collector):
    def __init__(self, stats: dict[str, SessionStats]) -> None:
        self._stats = stats

    def collect(self) -> Iterable[Metric]:
        return session_metrics(self._stats)


def sample(metric: str, **labels: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(Only({"toy": STATS}))
    return registry.get_sample_value(metric, {"model": "toy", **labels})


def test_each_open_session_is_in_one_tier() -> None:
    tiers = {tier: sample("meshd_sessions", tier=tier) for tier in ("resident", "bounded", "parked")}

    assert tiers == {"resident": 3, "bounded": 1, "parked": 5}


def test_what_they_take_and_do_is_told() -> None:
    assert sample("meshd_session_bytes", kind="live") == 1000
    assert sample("meshd_session_bytes", kind="parked") == 5000
    assert sample("meshd_session_cells", kind="used") == 1024
    assert sample("meshd_sessions_busy", state="answering") == 2
    assert sample("meshd_session_moves_total", kind="parked") == 7
    assert sample("meshd_session_moves_total", kind="resumed") == 3


def test_drafts_accepted_are_among_those_made() -> None:
    made, kept = (sample("meshd_session_tokens_total", kind=kind) for kind in ("drafted", "accepted"))

    assert (made, kept) == (60, 48)


def test_a_node_without_sessions_has_the_names_and_no_samples() -> None:
    families = list(session_metrics({}))

    assert len(families) == 6
    assert not any(family.samples for family in families)
