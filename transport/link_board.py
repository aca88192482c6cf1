"""The present state of every link, for the many parts that react to its changes.

Whoever performs the changes tells the board of each before anybody else hears; everyone else asks it, or waits.
"""

from __future__ import annotations

import asyncio

from transport.interface import LinkChanged, LinkState, NodeId


class LinkBoard:
    """Implements `interface.Links` from what `heard` is told. Lives on one loop."""

    def __init__(self) -> None:
        self._states: dict[NodeId, LinkState] = {}
        self._waiting: set[asyncio.Future[None]] = set()

    def heard(self, change: LinkChanged) -> None:
        """Call with every change, in order."""
        self._states[change.node] = change.state
        for turn in self._waiting:
            if not turn.done():
                turn.set_result(None)

    def state(self, node: NodeId) -> LinkState | None:
        return self._states.get(node)

    async def changed(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.add(turn)
        try:
            await turn
        finally:
            self._waiting.discard(turn)
