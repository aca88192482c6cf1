"""Claims are published when they are on disk, and not before."""

from __future__ import annotations

import asyncio

from gossip.lease import CLAIMS, Claim, encode_claims
from gossip.view import View
from llm.claims import Change, Claims, Lost, Won
from llm.hosting import ELECTION_INTERVAL_S, claim_hosting
from tests.llm.test_claims import GIB, ME, TOY, no_term, node, offer
from transport.virtual_time import VirtualTimeLoop

loop_factory = VirtualTimeLoop


class Gossip:
    """Shows one node, and what it published last."""

    def __init__(self) -> None:
        self.claimed = encode_claims([])

    @property
    def view(self) -> View:
        return View(1, (node(ME, 8, {CLAIMS: self.claimed}),))

    def publish(self, key: str, value: bytes, *, is_urgent: bool = False) -> None:
        assert key == CLAIMS and is_urgent
        self.claimed = value


async def test_a_claim_is_told_to_the_mesh_once_it_is_kept_and_given_up_with_the_model() -> None:
    gossip, offers, changes = Gossip(), [offer()], list[Change]()
    is_kept = asyncio.Event()

    async def keep(claim: Claim) -> bool:
        await is_kept.wait()
        return True

    async with asyncio.TaskGroup() as group:
        task = group.create_task(
            claim_hosting(gossip, Claims(ME, no_term), lambda: tuple(offers), keep, changes.append)
        )
        await asyncio.sleep(5)
        assert gossip.claimed == encode_claims([]) and changes == []

        is_kept.set()
        await asyncio.sleep(1.5 * ELECTION_INTERVAL_S)
        mine = Claim(TOY, 1, 8 * GIB, ME)
        assert gossip.claimed == encode_claims([mine]) and changes == [Won(mine)]

        offers.clear()
        await asyncio.sleep(1.5 * ELECTION_INTERVAL_S)
        assert gossip.claimed == encode_claims([])
        assert [type(change) for change in changes] == [Won, Lost]
        task.cancel()


async def test_a_claim_that_cannot_be_kept_is_not_made_and_tried_again() -> None:
    gossip, asked = Gossip(), list[Claim]()

    async def keep(claim: Claim) -> bool:
        asked.append(claim)
        return len(asked) > 3

    async with asyncio.TaskGroup() as group:
        task = group.create_task(claim_hosting(gossip, Claims(ME, no_term), lambda: (offer(),), keep))
        await asyncio.sleep(2.5 * ELECTION_INTERVAL_S)
        assert len(asked) == 3 and gossip.claimed == encode_claims([])
        await asyncio.sleep(ELECTION_INTERVAL_S)
        assert gossip.claimed == encode_claims([Claim(TOY, 1, 8 * GIB, ME)])
        task.cancel()
