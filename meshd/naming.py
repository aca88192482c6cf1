"""Which node a person means: by the name or the id that `meshd status` shows."""

from __future__ import annotations

from gossip.view import NodeView, View
from transport.identity import node_text, parse_node_text, short
from transport.interface import NodeId

SHORTEST_ID = 8


class UnknownNode(Exception):
    """No node goes by that name, or several do; the message says what to write instead."""


def find_node(text: str, view: View) -> NodeView:
    """The node of `view` named `text`, or whose id begins so. Raises UnknownNode."""
    cleaned = text.strip()
    found = [entry for entry in view.nodes if entry.name == cleaned or _begins(entry.node, cleaned)]
    if len(found) > 1:
        choices = ", ".join(f"{entry.name} ({short(entry.node)})" for entry in found)
        raise UnknownNode(f"{cleaned!r} may be any of {choices}: write the id")
    if not found:
        raise UnknownNode(f"no node here is called {cleaned!r}; `meshd status` shows names and ids")
    return found[0]


def find_node_id(text: str, view: View) -> NodeId:
    """As `find_node`, and a full id also of a node that is not in `view`. Raises UnknownNode."""
    try:
        return parse_node_text(text)
    except ValueError:
        return find_node(text, view).node


def _begins(node: NodeId, text: str) -> bool:
    return len(text) >= SHORTEST_ID and node_text(node).startswith(text.lower())
