"""The present state of every link, for the many parts that react to its changes.

A transport's events have one consumer. It tells this board; everyone else asks the board, or waits for it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from transport.interface import LinkChanged, LinkState, NodeId


class Links(Protocol):
    """What a tunnel, and whatever else outlives a connection, must know of links."""

    def state(self, node: NodeId) -> LinkState | None:
        """None for a node that was never connected or kept."""

    async def changed(self) -> None:
        """Wait for the next change of any link after this call. Bring your own deadline."""


class LinkBoard:
    """Implements `Links` from what `heard` is told. Lives on one loop."""

    def __init__(self) -> None:
        self._states: dict[NodeId, LinkState] = {}
        self._waiting: set[asyncio.Future[None]] = set()

    def heard(self, change: LinkChanged) -> None:
        """Call with every LinkChanged of the transport, in order."""
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
