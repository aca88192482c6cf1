"""What `meshd status` and `meshd forms --costs` say of forms: which there are, where, at what cost. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from forms.choice import Decision
from forms.cost import Cost
from forms.forms_fact import costs_in, read_forms
from gossip.view import NodeView, View


def form_rows(view: View) -> list[dict[str, Any]]:
    """The forms that nodes of the mesh have computed, and by what, for status."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in view.nodes:
        if entry is view.me or entry.is_usable:
            for cost in costs_in(read_forms(entry)):
                row = {"node": entry.name, "backend": cost.backend}
                nodes = found.setdefault(cost.form, [])
                if row not in nodes:
                    nodes.append(row)
    return [{"name": name, "nodes": found[name]} for name in sorted(found)]


def cost_rows(view: View, mine: Iterable[Cost]) -> list[dict[str, Any]]:
    """What each node says that calls cost there. mine: of this node, those of backends that it used before as well."""
    rows = [_cost_row(view.me.name, cost) for cost in mine]
    others: Sequence[NodeView] = [entry for entry in view.nodes[1:] if entry.is_usable]
    rows += [_cost_row(entry.name, cost) for entry in others for cost in costs_in(read_forms(entry))]
    return sorted(rows, key=lambda row: (row["form"], row["wire"], row["node"], row["backend"]))


def _cost_row(node: str, cost: Cost) -> dict[str, Any]:
    return {
        "form": cost.form,
        "wire": "text" if cost.is_text else "frame",
        "node": node,
        "backend": cost.backend,
        "base_s": cost.line.base_s,
        "per_work_s": cost.line.per_work_s,
        "cold_s": cost.cold_s,
        "calls": cost.calls,
        "error": cost.error,
    }


def decision_rows(decisions: Iterable[Decision]) -> list[dict[str, Any]]:
    """The last calls that could have run anywhere: where they went, and what was expected of it."""
    return [
        {
            "form": one.shape.form,
            "work": one.shape.work,
            "bytes_in": one.shape.bytes_in,
            "bytes_out": one.shape.bytes_out,
            "place": one.place,
            "predicted_s": one.predicted_s,
            "others": one.others,
            "actual_s": one.actual_s,
        }
        for one in decisions
    ]
