"""Remembers who did not answer, so that the next request goes elsewhere before gossip has its verdict.

A node that was silent is asked last, not left out: where it is the only host it may just have been slow. What
gossip finds out stands in the view; this only covers the seconds until then.
"""

from __future__ import annotations

from gossip.view import View
from transport.interface import NodeId

REMEMBERED_S = 10.0
"""Longer than gossip's verdict takes. A node that lives after all is asked again then, or when it has answered."""


class Silences:
    """One asker's memory. Bounded by the nodes of the mesh."""

    def __init__(self) -> None:
        self._since: dict[NodeId, tuple[int, float]] = {}

    def note(self, node: NodeId, boot: int, now: float) -> None:
        """`node`, in its life `boot`, said nothing."""
        self._since[node] = boot, now

    def forget(self, node: NodeId) -> None:
        """`node` has answered."""
        self._since.pop(node, None)

    def among(self, view: View, now: float) -> set[NodeId]:
        """Who of the view is still held to be silent: not for long, and not once it has started anew."""
        boots = {entry.node: entry.boot for entry in view.nodes}
        self._since = {
            node: (boot, since)
            for node, (boot, since) in self._since.items()
            if now - since < REMEMBERED_S and boots.get(node) == boot
        }
        return set(self._since)
