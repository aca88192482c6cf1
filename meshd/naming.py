"""Which node a person means, by the name or the id that `meshd status` shows; and names that only one node bears."""

from __future__ import annotations

from collections.abc import Iterable

from gossip.view import NodeView, Status, View
from transport.identity import node_text, parse_node_text, short
from transport.interface import Link, NodeId

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


def distinct_names(view: View, links: Iterable[Link] = ()) -> dict[NodeId, str]:
    """A name for each node of `view`, and at the other ends of `links`, that no other of them has.

    Of namesakes the one that lives is called by its name alone, of several the lowest id; the others' ids are added.
    """
    strangers = [(Status.LEFT, link.node, link.name) for link in links if view.get(link.node) is None]
    known = [(entry.status, entry.node, entry.name) for entry in view.nodes]
    found: dict[NodeId, str] = {}
    taken: set[str] = set()
    for _, node, name in sorted((*known, *strangers)):
        found[node] = f"{name} ({short(node)})" if name in taken else name
        taken.add(name)
    return found


def _begins(node: NodeId, text: str) -> bool:
    return len(text) >= SHORTEST_ID and node_text(node).startswith(text.lower())
