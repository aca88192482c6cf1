"""Holds the elections of `claims` once a second, and publishes what this node claims."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from gossip.lease import CLAIMS, Claim
from gossip.view import View
from llm.claims import Change, Claims, Lost, Won
from llm.offer import Offer

ELECTION_INTERVAL_S = 1.0

KeepClaim = Callable[[Claim], Awaitable[bool]]
"""Has a claim on disk before anybody hears of it; whether it may be made."""


class Gossip(Protocol):
    """What the election needs of the gossip runner."""

    @property
    def view(self) -> View: ...

    def publish(self, key: str, value: bytes, *, is_urgent: bool = False) -> None: ...


def ignore_change(change: Change) -> None:
    """For a node that serves alike with and without a claim."""


async def claim_hosting(
    gossip: Gossip,
    claims: Claims,
    local: Callable[[], tuple[Offer, ...]],
    keep: KeepClaim,
    on_change: Callable[[Change], None] = ignore_change,
) -> None:
    """Hold elections until cancelled. local: this node's own offers, fresh.  on_change: told after it is published."""
    published = claims.fact
    loop = asyncio.get_running_loop()
    while True:
        changes = [change for change in claims.update(gossip.view, local(), loop.time()) if await _apply(change, keep)]
        for change in changes:
            if isinstance(change, Won):
                claims.hold(change.claim)
        if claims.fact != published:
            published = claims.fact
            gossip.publish(CLAIMS, published, is_urgent=True)
        for change in changes:
            on_change(change)
        await asyncio.sleep(ELECTION_INTERVAL_S)


async def _apply(change: Change, keep: KeepClaim) -> bool:
    match change:
        case Won(claim):
            return await keep(claim)
        case Lost():
            return True
