"""Wires claims and leases: this node as a host that asks for them, and as a worker that grants them.

Everything is decided elsewhere: who hosts by `gossip.lease` and `llm.claims`, who is granted what by `gossip.grant`,
what a host may use by `gossip.tenure`, and a majority's leave, where one is wanted, by `gossip.quorum`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path
from typing import Any

from gossip.fence_book import FenceBook
from gossip.grant import Room, any_room
from gossip.lease import Claim, claims
from gossip.lease_keeper import LeaseKeeper
from gossip.lease_service import LeaseService
from gossip.quorum import MIN_MEMBERS, Quorum, quorum, voters
from gossip.tenure import Hold
from gossip.view import View
from llm.claims import DRAIN_S, Claims, resource_of
from llm.offer import Offer, catalogue
from meshd.status import LeasesNow
from transport.errors import ProtocolError
from transport.question import Opener

logger = logging.getLogger("meshd.leases")

VOTE_INTERVAL_S = 1.0
EVERY_MODEL = "all"
KEEP_CLAIM_S = 10.0
"""For a disk that is slow; after that the claim is tried again."""


def sleepless_clock() -> Callable[[], float]:
    """Monotonic seconds that go on while this machine is suspended, where the system has such a clock.

    A host that only wakes after its lease has run out has to know it.
    """
    kind = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic if kind is None else lambda: time.clock_gettime(kind)


class Leases:
    """Claims and leases of one node. fences: the file.  quorum_models: names, or `EVERY_MODEL`; usually none."""

    def __init__(
        self,
        fences: Path,
        opener: Opener,
        view: Callable[[], View],
        room: Room = any_room,
        quorum_models: Collection[str] = (),
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._view = view
        self._quorum_resources = {resource_of(name) for name in quorum_models}
        self._for_every_model = EVERY_MODEL in quorum_models
        self._voting: frozenset[str] = frozenset()
        self._book, self.problem = _open_book(fences, view())
        self._drains_since: dict[str, float] = {}
        self._clock = clock or sleepless_clock()
        self.claims = Claims(view().me.node, self.highest_term)
        self.keeper = LeaseKeeper(opener, self._clock, self.claims.refused)
        self.service = LeaseService(self._book, view, self._clock, room)

    # What elections need

    def highest_term(self, resource: str) -> int:
        """The last term of `resource` that this node's disk knows of."""
        return self._book.highest_term(resource) if self._book is not None else 0

    async def keep_claim(self, claim: Claim) -> bool:
        """Have a claim of this node on disk; whether it may be made."""
        if self._book is None:
            return False
        try:
            async with asyncio.timeout(KEEP_CLAIM_S):
                return await self._book.keep_claim(claim.resource, claim.term)
        except (OSError, TimeoutError) as error:
            logger.warning("not claiming %s: its term cannot be kept on disk: %s", claim.resource, error)
            return False

    # What hosts need

    def why_not_yet(self, resource: str) -> str:
        """Why this node must not use its claim of `resource` yet; empty when it may."""
        if former := self._draining_leader(resource):
            return f"{former} led it and ends what it has begun, for {DRAIN_S:.0f} s at most"
        return self._why_no_majority(resource) if self._wants_quorum(resource) else ""

    def _draining_leader(self, resource: str) -> str:
        """The name of a living node that still serves the model as a split, for so long as it may; else empty.

        Leases of a higher term would end its leases, and with them what it has begun.
        """
        view = self._view()
        model = next((one for one in catalogue(view) if resource_of(one.name) == resource), None)
        others = [one for one in model.hostings if one.node is not view.me] if model is not None else []
        former = next((one.node for one in others if one.node.is_usable and _leads(one.offer)), None)
        if former is None:
            self._drains_since.pop(resource, None)
            return ""
        since = self._drains_since.setdefault(resource, self._clock())
        return former.name if self._clock() - since < DRAIN_S else ""

    def _why_no_majority(self, resource: str) -> str:
        now = self._quorum(resource)
        if now.is_reached:
            return ""
        if now.members < MIN_MEMBERS:
            return f"a majority has to agree, and of {now.members} members there is none: {MIN_MEMBERS} at least"
        return f"{now.granted} of {now.members} members agree that this node hosts it, {now.needed} have to"

    def now(self) -> LeasesNow:
        """Everything that is claimed for certain, held and granted at this moment."""
        quorums = {resource: self._quorum(resource) for resource in sorted(self._voting)}
        return LeasesNow(self.keeper.all_leases(), self.service.grants(), quorums, self.problem)

    def works(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What has to run, by name."""
        works = {"leases": self.keeper.run(), "grants": self.service.run(), "votes": self._ask_for_votes()}
        return works | ({"fences": self._book.run()} if self._book is not None else {})

    def _wants_quorum(self, resource: str) -> bool:
        return self._for_every_model or resource in self._quorum_resources

    def _quorum(self, resource: str) -> Quorum:
        votes = self.keeper.leases(resource, "vote")
        return quorum(self._view(), votes, has_own_vote=self.service.has_own_vote(resource))

    async def _ask_for_votes(self) -> None:
        """Want the leave of all members for what this node claims, where that is wanted, until cancelled."""
        while True:
            self._hold_votes(self._view())
            await asyncio.sleep(VOTE_INTERVAL_S)

    def _hold_votes(self, view: View) -> None:
        mine = [claim for claim in claims(view).values() if claim.host == view.me.node]
        wanted = {claim.resource: claim.term for claim in mine if self._wants_quorum(claim.resource)}
        for resource, term in wanted.items():
            self.keeper.hold(Hold(resource, "vote", term, dict.fromkeys(voters(view), 0)))
        for resource in self._voting - wanted.keys():
            self.keeper.hold(Hold(resource, "vote", 1, {}))
        self._voting = frozenset(wanted)


def _leads(offer: Offer) -> bool:
    return bool(offer.parts) and offer.state in ("ready", "draining")


def _open_book(path: Path, view: View) -> tuple[FenceBook | None, str]:
    try:
        return FenceBook(path, view.me.node), ""
    except (OSError, ProtocolError) as error:
        problem = (
            f"{error}; so this node grants no leases and claims no model, or it might serve an old term again. Once no "
            f"split model runs in the mesh, delete {path} and start meshd again"
        )
        logger.error("%s", problem)
        return None, problem
