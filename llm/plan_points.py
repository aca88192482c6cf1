"""The measurements that predictions of split speed rest on: what others published, and what was measured here. Pure.

Published figures are mesh-llm's own, of its test document; times per token are 1000 / tokens per second. In theirs with
a draft, one pass makes several tokens but the draft's tokens may cross the network one by one, so they have a k of
their own. Ours are of `python -m bench.split_plan --mesh`: agents that split a model through tunnels over relays, all
on two cores, so that P holds what they take from one another (docs/benchmarks.md).
"""

from __future__ import annotations

from llm.plan_speed import Fit, Point, fit

THREE_NODES = ((5, 30.1), (10, 21.4), (20, 12.6))
"""RTT in ms and tokens a second, published for three nodes; 60.2 without distance."""

PUBLISHED_PLAIN = tuple(
    Point(f"3 nodes, {rtt_ms} ms", 3, rtt_ms, 1000 / 60.2, 1000 / speed) for rtt_ms, speed in THREE_NODES
)
PUBLISHED_DRAFT = (
    Point("32B, code, 20 ms", 2, 20, 1000 / 25, 1000 / 13, has_draft=True),
    Point("32B, prose, 20 ms, the faster", 2, 20, 1000 / 19, 1000 / 9, has_draft=True),
    Point("32B, prose, 20 ms, the slower", 2, 20, 1000 / 19, 1000 / 6, has_draft=True),
)
OUR_ALONE = 228.97
OUR_SPLITS = (
    (2, 0, 74.75),
    (2, 5, 52.67),
    (2, 20, 29.7),
    (2, 40, 17.8),
    (3, 0, 45.32),
    (3, 5, 32.26),
    (3, 20, 16.31),
    (3, 40, 9.69),
)
"""Stages, RTT in ms and tokens a second; machine A, 2026-11-20."""
MEASURED = tuple(
    Point(f"{stages} stages, {rtt_ms:g} ms", stages, rtt_ms, 1000 / OUR_ALONE, 1000 / speed)
    for stages, rtt_ms, speed in OUR_SPLITS
)


def fit_for(*, has_draft: bool) -> Fit:
    """k and P to predict with: ours where we measured, and an interval that spans the published points as well."""
    published = fit(PUBLISHED_DRAFT if has_draft else PUBLISHED_PLAIN)
    if has_draft:
        return published
    ours = fit(MEASURED)
    return Fit(ours.round_trips, min(ours.least, published.least), max(ours.most, published.most), ours.stage_ms)
