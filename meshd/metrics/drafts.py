"""Drafting for this node's models, on other hosts and here, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from llm.draft.tally import Account
from llm.engines.interface import Drafting

LABELS = ("model", "drafter", "node")


def drafts(accounts: Iterable[Account], local: Mapping[str, Drafting], me: str) -> Iterator[Metric]:
    """Every family. local: what this node's own engines draft, by model.  me: its name."""
    state = GaugeMetricFamily("meshd_draft_state", "1 for the state that drafting is in.", labels=[*LABELS, "state"])
    speedup = GaugeMetricFamily(
        "meshd_draft_speedup", "Expected of the best block, times plain decoding.", labels=LABELS
    )
    seconds = GaugeMetricFamily("meshd_draft_seconds", "What that is made of.", labels=[*LABELS, "part"])
    tokens = CounterMetricFamily("meshd_draft_tokens", "Proposed, and of these accepted.", labels=[*LABELS, "kind"])
    blocks = CounterMetricFamily("meshd_draft_blocks", "Verified, or not there in time.", labels=[*LABELS, "outcome"])
    for one in accounts:
        tally = one.tally
        labels = [tally.model, tally.drafter, one.node]
        state.add_metric([*labels, tally.state], 1)
        speedup.add_metric(labels, tally.speedup)
        parts = {"plain": tally.plain_s, "verify": tally.verify_s, "draft": tally.draft_s}
        parts |= {"round_trip": tally.round_trip_s, "break_even": tally.break_even_s}
        for part, value in parts.items():
            seconds.add_metric([*labels, part], value)
        for kind, count in (("drafted", tally.drafted), ("accepted", tally.accepted)):
            tokens.add_metric([*labels, kind], count)
        for outcome, count in (("verified", tally.blocks), ("missed", tally.missed)):
            blocks.add_metric([*labels, outcome], count)
    for model, stand in local.items():
        labels = [model, stand.drafter, me]
        state.add_metric([*labels, stand.state], 1)
        speedup.add_metric(labels, stand.speedup)
        for kind, count in (("drafted", stand.drafted), ("accepted", stand.accepted)):
            tokens.add_metric([*labels, kind], count)
    yield from (state, speedup, seconds, tokens, blocks)
