"""Hears from the facts of others what is new about the mesh itself, and passes on what this node knows of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator

from gossip.runner import GossipRunner
from gossip.view import NodeView, View
from meshd.mesh_facts import (
    DELEGATES_FACT,
    REVOKED_FACT,
    ROOTS_FACT,
    encode_delegates,
    encode_roots,
    is_keeper,
    read_roots,
)
from meshd.standing import Standing
from transport.errors import ProtocolError, Refused
from transport.identity import short
from transport.interface import NodeId, Role

logger = logging.getLogger("meshd.standing")

PAUSE_S = 0.25
"""Between two looks at a view that keeps changing."""


@contextlib.contextmanager
def _distrusting(teller: NodeId) -> Iterator[None]:
    """What `teller` said costs that fact only, when it proves false."""
    try:
        yield
    except (Refused, ProtocolError) as error:
        logger.warning("ignoring what %s tells of the mesh: %s", short(teller), error)


class MeshNews:
    """Between a standing and gossip. `run` it as long as both."""

    def __init__(self, standing: Standing, gossip: GossipRunner) -> None:
        self._standing = standing
        self._gossip = gossip
        self._read: dict[tuple[NodeId, str], bytes] = {}
        self._read_under = standing.roots
        self._told: dict[str, bytes] = {}

    async def run(self) -> None:
        """Follow the view until cancelled."""
        self._standing.follow(lambda: self._tell(self._gossip.view))
        view = self._gossip.view
        while True:
            self._hear(view)
            self._tell(view)
            await asyncio.sleep(PAUSE_S)
            view = await self._gossip.changed(view.version)

    # Hearing

    def _hear(self, view: View) -> None:
        self._forget_read(view)
        # Roots first: the list may be signed with one that is new.
        for node in view.nodes[1:]:
            if (value := self._unread(node, ROOTS_FACT)) is not None:
                with _distrusting(node.node):
                    self._standing.learn_roots(read_roots(value, node.node))
        for node in view.nodes[1:]:
            if (value := self._unread(node, REVOKED_FACT)) is not None:
                with _distrusting(node.node):
                    self._standing.learn_revocations(value)

    def _unread(self, node: NodeView, key: str) -> bytes | None:
        """The fact, when it was not read before."""
        value = node.facts.get(key)
        if value is None or self._read.get((node.node, key)) is value:
            return None
        self._read[(node.node, key)] = value
        return value

    def _forget_read(self, view: View) -> None:
        """Under a new root key everything is read anew; what nobody says any more need not be remembered."""
        if self._read_under != self._standing.roots:
            self._read_under = self._standing.roots
            self._read.clear()
        present = {node.node for node in view.nodes}
        self._read = {place: value for place, value in self._read.items() if place[0] in present}

    # Telling

    def _tell(self, view: View) -> None:
        if view.me.role is Role.CLIENT:
            return
        standing, current = self._standing, self._standing.revocations.current
        successions = standing.membership.successions
        self._keep_told(view, ROOTS_FACT, encode_roots(successions) if successions else b"")
        self._keep_told(view, REVOKED_FACT, current.encoded if current else b"")
        named = standing.belonging.delegates
        if named is not None and standing.belonging.holds_root:
            self._publish(DELEGATES_FACT, encode_delegates(named))

    def _keep_told(self, view: View, key: str, value: bytes) -> None:
        is_teller = self._standing.belonging.holds_root or is_keeper(view, key, value)
        self._publish(key, value if is_teller else b"")

    def _publish(self, key: str, value: bytes) -> None:
        if self._told.get(key, b"") != value:
            self._told[key] = value
            self._gossip.publish(key, value, is_urgent=True)
