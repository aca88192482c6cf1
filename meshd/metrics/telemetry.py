"""Everything that one node counts, in one registry of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, disable_created_metrics

from gossip.runner import GossipRunner
from meshd.activity import Activity
from meshd.metrics.forms import FormMeter
from meshd.metrics.members import MemberEvents
from meshd.metrics.mesh import MeshCollector
from meshd.metrics.requests import RequestMeter, RequestMetrics
from meshd.status import Situation


@dataclass(frozen=True, slots=True)
class Telemetry:
    """registry: what `/metrics` prints.  activity: what the console shows of it, deed by deed."""

    registry: CollectorRegistry
    activity: Activity
    requests: RequestMeter
    members: MemberEvents
    forms: FormMeter

    async def follow(self, gossip: GossipRunner) -> None:
        """Count what happens to members until cancelled."""
        view = gossip.view
        while True:
            self.members.follow(view)
            view = await gossip.changed(view.version)


def make_telemetry(situation: Callable[[], Situation], queued: Callable[[], dict[str, int]]) -> Telemetry:
    """situation: the mesh as it is now.  queued: requests that wait at this node, by model."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the page
    registry, activity, members = CollectorRegistry(), Activity(), MemberEvents()
    registry.register(MeshCollector(situation, members, queued))
    return Telemetry(
        registry, activity, RequestMeter(RequestMetrics(registry), activity), members, FormMeter(registry, activity)
    )
