"""Serves `join/1`: another member passes on somebody who wants to join by a token that this node made.

Who may join is decided in `transport.forwarding`.
"""

from __future__ import annotations

import asyncio
import logging
import os

from meshd.standing import Doorkeeper, Standing
from transport.budget import Allowance, PeerBudgets
from transport.forwarding import ALLOWANCE, DEADLINE_S, MAX_FORWARD_BYTES, answer_forwarded, too_many
from transport.identity import short
from transport.interface import Peer, Stream
from transport.question import serve_question

logger = logging.getLogger("meshd.joining")

TOGETHER = Allowance(in_flight=32, burst=128, per_second=16.0)
"""Of all members: a use costs a write to disk and back, about a millisecond on a good one."""


class Joining:
    """The issuer's part in joining through others."""

    def __init__(self, standing: Standing, transport: Doorkeeper) -> None:
        self._standing = standing
        self._transport = transport
        self._budgets = PeerBudgets(ALLOWANCE, TOGETHER)

    async def serve(self, stream: Stream) -> None:
        """Answer one `join/1` stream. Raises MeshError for what goes wrong with it."""
        await serve_question(stream, self._answer, DEADLINE_S, MAX_FORWARD_BYTES)

    async def _answer(self, asker: Peer, question: bytes) -> bytes:
        if not self._budgets.take(asker.node, asyncio.get_running_loop().time()):
            raise too_many()
        try:
            now = self._standing.unix_time()
            grant = answer_forwarded(self._transport.site, asker, question, now, os.urandom)
            if grant.redeemed is not None:
                self._standing.save_redemption()
                logger.info("a node joined by token %s through %s", grant.redeemed.hex(), short(asker.node))
        finally:
            self._budgets.give_back(asker.node)
        return grant.reply
