"""Holds the elections of `claims` once a second, and publishes what this node claims."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from gossip.lease import CLAIMS
from gossip.view import View
from llm.claims import Claims
from llm.offer import Offer

ELECTION_INTERVAL_S = 1.0


class Gossip(Protocol):
    """What the election needs of the gossip runner."""

    @property
    def view(self) -> View: ...

    def publish(self, key: str, value: bytes, *, is_urgent: bool = False) -> None: ...


async def claim_hosting(gossip: Gossip, local: Callable[[], tuple[Offer, ...]]) -> None:
    """Hold elections until cancelled. local: this node's own offers, fresh."""
    me = gossip.view.me.node
    loop = asyncio.get_running_loop()
    claims = Claims(me)
    while True:
        if claims.update(gossip.view, local(), loop.time()):
            gossip.publish(CLAIMS, claims.fact, is_urgent=True)
        await asyncio.sleep(ELECTION_INTERVAL_S)
