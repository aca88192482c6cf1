"""The sessions that this node keeps, for Prometheus. Pure; what counts is `llm.sessions.stats`'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from llm.sessions.stats import SessionStats


def session_metrics(stats: Mapping[str, SessionStats]) -> Iterator[Metric]:
    """Every family. stats: by model. Counters begin anew with the process that keeps the sessions."""
    yield _gauge(
        "meshd_sessions", "Open sessions, by tier.", "tier", {name: _tiers(one) for name, one in stats.items()}
    )
    busy = {name: {"answering": one.active, "waiting": one.waiting} for name, one in stats.items()}
    yield _gauge("meshd_sessions_busy", "Sessions that are being answered, or wait for it.", "state", busy)
    sizes = {name: _bytes(one) for name, one in stats.items()}
    yield _gauge("meshd_session_bytes", "What sessions take, in memory and on disk.", "kind", sizes)
    cells = {name: {"used": one.used_cells, "all": one.cells} for name, one in stats.items()}
    yield _gauge("meshd_session_cells", "Cells of the context that sessions share.", "kind", cells)
    moves = {name: _moves(one) for name, one in stats.items()}
    yield _counter("meshd_session_moves", "Sessions that left memory, or came back.", moves)
    tokens = {name: _tokens(one) for name, one in stats.items()}
    yield _counter("meshd_session_tokens", "Tokens that sessions said, and of these drafts.", tokens)


def _tiers(one: SessionStats) -> dict[str, int]:
    return {"resident": one.resident - one.bounded, "bounded": one.bounded, "parked": one.parked}


def _bytes(one: SessionStats) -> dict[str, int]:
    return {
        "context": one.context_bytes,
        "resident": one.resident_bytes,
        "live": one.live_bytes,
        "parked": one.parked_bytes,
    }


def _moves(one: SessionStats) -> dict[str, int]:
    return {"parked": one.parkings, "resumed": one.resumptions, "reread": one.rereads, "forgotten": one.forgotten}


def _tokens(one: SessionStats) -> dict[str, int]:
    return {"said": one.said_tokens, "drafted": one.drafted_tokens, "accepted": one.accepted_tokens}


def _gauge(name: str, words: str, label: str, values: Mapping[str, Mapping[str, int]]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=["model", label])
    for model, by_label in values.items():
        for value, number in by_label.items():
            family.add_metric([model, value], number)
    return family


def _counter(name: str, words: str, values: Mapping[str, Mapping[str, int]]) -> Metric:
    family = CounterMetricFamily(name, words, labels=["model", "kind"])
    for model, by_kind in values.items():
        for kind, number in by_kind.items():
            family.add_metric([model, kind], number)
    return family
