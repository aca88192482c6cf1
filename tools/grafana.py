"""Writes docs/grafana.json: a dashboard of the names in docs/metrics.md. `python -m tools.grafana`"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "grafana.json"
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT, COLUMNS = 8, 8, 3
OF_NODE = 'instance=~"$node"'


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. queries: expression by legend, in PromQL; NODE stands for the choice of nodes.  unit: Grafana's."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"


def quantile(share: float, metric: str) -> str:
    return f"histogram_quantile({share}, sum by (le, model) (rate({metric}_bucket{{NODE}}[$__rate_interval])))"


def rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}{{NODE}}[$__rate_interval]))"


PANELS = (
    Panel("Requests by status", {"{{status}}": rate("meshd_requests_total", "status")}, "reqps"),
    Panel(
        "Until the first piece",
        {f"{{{{model}}}} p{round(100 * share)}": quantile(share, "meshd_ttft_seconds") for share in (0.5, 0.95)},
        "s",
    ),
    Panel(
        "Between tokens",
        {f"{{{{model}}}} p{round(100 * share)}": quantile(share, "meshd_inter_token_seconds") for share in (0.5, 0.95)},
        "s",
    ),
    Panel("Tokens", {"{{model}} {{kind}}": rate("meshd_tokens_total", "model, kind")}, "short"),
    Panel("In flight", {"{{model}}": "sum by (model) (meshd_model_in_flight{NODE})"}),
    Panel("Waiting for a slot", {"{{model}}": "sum by (model) (meshd_model_queue{NODE})"}),
    Panel("Errors by code", {"{{code}}": rate("meshd_request_errors_total", "code")}, "reqps"),
    Panel("Round trips", {"{{instance}} to {{peer}}": "meshd_link_rtt_seconds{NODE}"}, "s"),
    Panel(
        "Bytes between nodes",
        {"{{carrier}} {{direction}}": rate("meshd_link_bytes_total", "carrier, direction")},
        "Bps",
    ),
    Panel("Form calls", {"{{form}} {{backend}}": rate("meshd_form_calls_total", "form, backend")}),
    Panel("Where calls went", {"{{form}} {{place}}": rate("meshd_form_bent_total", "form, place")}),
    Panel(
        "Forms: taken over predicted, p50",
        {
            "{{form}}": "histogram_quantile(0.5, sum by (le, form) "
            "(rate(meshd_form_prediction_ratio_bucket{NODE}[$__rate_interval])))"
        },
    ),
    Panel("Members", {"{{state}}": "max by (state) (meshd_members{NODE})"}),
    Panel("What happened to members", {"{{event}}": rate("meshd_member_events_total", "event")}),
    Panel("Gossip refused", {"{{kind}}": rate("meshd_gossip_refused_total", "kind")}),
    Panel("Elections", {"{{instance}}": rate("meshd_elections_total", "instance")}),
    Panel(
        "Memory reserved",
        {"{{instance}} {{device}} {{holder}} {{use}}": "meshd_memory_reserved_bytes{NODE} > 0"},
        "bytes",
    ),
    Panel("Sessions", {"{{model}} {{tier}}": "sum by (model, tier) (meshd_sessions{NODE})"}),
    Panel("Sessions' memory", {"{{model}} {{kind}}": "sum by (model, kind) (meshd_session_bytes{NODE})"}, "bytes"),
    Panel("Sessions that leave and come back", {"{{kind}}": rate("meshd_session_moves_total", "kind")}),
    Panel("Sessions' tokens", {"{{model}} {{kind}}": rate("meshd_session_tokens_total", "model, kind")}),
    Panel("Memory free", {"{{instance}} {{name}}": "meshd_memory_free_bytes{NODE}"}, "bytes"),
    Panel(
        "Memory as other nodes say",
        {"{{peer}} {{device}} {{use}}": "max by (peer, device, use) (meshd_peer_memory_bytes{NODE}) > 0"},
        "bytes",
    ),
    Panel("Drafts, times as fast", {"{{model}} by {{drafter}} on {{node}}": "meshd_draft_speedup{NODE} > 0"}),
    Panel("Drafted tokens", {"{{model}} {{kind}}": rate("meshd_draft_tokens_total", "model, kind")}),
    Panel("Speed proved", {"{{peer}}": "max by (peer) (meshd_poc_attested_flop_per_s{NODE})"}, "flops"),
)


def dashboard() -> dict[str, Any]:
    """What Grafana imports."""
    return {
        "title": "meshd",
        "uid": "meshd",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_source(), _nodes()]},
        "panels": list(_panels()),
    }


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _nodes() -> dict[str, Any]:
    query = "label_values(meshd_info, instance)"
    return {
        "name": "node",
        "label": "nodes",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": "nodes"},
        "includeAll": True,
        "multi": True,
        "refresh": 2,
        "current": {"text": "All", "value": "$__all"},
    }


def _panels() -> Iterator[dict[str, Any]]:
    for number, panel in enumerate(PANELS):
        row, column = divmod(number, COLUMNS)
        yield {
            "id": number + 1,
            "title": panel.title,
            "type": panel.kind,
            "datasource": SOURCE,
            "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
            "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
            "targets": [
                {
                    "refId": chr(65 + place),
                    "datasource": SOURCE,
                    "expr": query.replace("NODE", OF_NODE),
                    "legendFormat": legend,
                }
                for place, (legend, query) in enumerate(panel.queries.items())
            ],
        }


def text() -> str:
    """The file's contents."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    PAGE.write_text(text())
