"""Guards of the real code, each with what takes it away: the simulator must notice every one.

`python -m tests.gossip.mutations` looks for the first seeds that catch each and prints the table of
docs/decisions/0013-simulator.md; `test_mutations` holds the list to what is written here.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import pytest

import gossip.broadcast
import gossip.engine
import gossip.fence
import gossip.grant
import gossip.knowledge
import gossip.lease
import gossip.post
import gossip.reading
import gossip.roster
import gossip.suspicion
import gossip.tenure
import transport.link
import transport.token_book
from gossip.facts import Fact, FactHeader, open_fact
from gossip.member import Standing
from gossip.message import Accusation, FactRumour
from gossip.roster import Verdict
from gossip.simulator.faults import draw_schedule
from gossip.simulator.keys import FakeVerifier
from gossip.simulator.schedules import Failed, run_schedule
from gossip.view import Status
from transport.interface import NodeId

Patch = pytest.MonkeyPatch
SEARCHED = range(1000)


@dataclass(frozen=True, slots=True)
class Mutation:
    """A guard and its removal. seed: one that caught it when this was written."""

    guard: str
    where: str
    remove: Callable[[Patch], None]
    seed: int


def _duplicate_connections(patch: Patch) -> None:
    patch.setattr(transport.link.LinkTable, "_loser", lambda self, held, arrival: None)


def _clamp(patch: Patch) -> None:
    patch.setattr(gossip.suspicion, "accusers_needed", lambda nodes: gossip.suspicion.MAX_ACCUSERS)


def _stale_accusation(patch: Patch) -> None:
    accuse = gossip.roster.Roster.accuse

    def accuse_anyway(self: Any, said: Accusation, now: float, **more: Any) -> Verdict:
        held = self.get(NodeId(said.subject))
        if held is not None and (said.boot, said.incarnation) < held.standing[:2]:
            said = Accusation(said.subject, held.record.boot, held.record.incarnation, said.dead, said.accuser)
        return accuse(self, said, now, **more)

    patch.setattr(gossip.roster.Roster, "accuse", accuse_anyway)


def _signature(domain: bytes) -> Callable[[Patch], None]:
    def remove(patch: Patch) -> None:
        verify = FakeVerifier.verify
        patch.setattr(
            FakeVerifier,
            "verify",
            lambda self, public, signature, message: (
                message.startswith(domain) or verify(self, public, signature, message)
            ),
        )

    return remove


def _fact_digest(patch: Patch) -> None:
    def open_anyway(rumour: FactRumour, header: FactHeader, *more: Any) -> Fact:
        fact = open_fact(FactRumour(rumour.header, rumour.signature, None), header, *more)
        return replace(fact, value=rumour.value)

    patch.setattr(gossip.reading, "open_fact", open_anyway)


def _pause(patch: Patch) -> None:
    def notice_nothing(self: Any, now: float) -> None:
        self._last = now

    patch.setattr(gossip.engine.Engine, "_notice_pause", notice_nothing)


def _fence(patch: Patch) -> None:
    patch.setattr(gossip.fence.Fence, "admits", lambda self, term, host: True)


def _fsync(patch: Patch) -> None:
    handle = gossip.grant.Grants.handle

    def remember_last(self: Any, now: float, event: Any) -> list[Any]:
        effects = handle(self, now, event)
        return sorted(effects, key=lambda effect: isinstance(effect, gossip.grant.Remember))

    patch.setattr(gossip.grant.Grants, "handle", remember_last)


def _lease_stop(patch: Patch) -> None:
    patch.setattr(gossip.tenure, "USABLE_SHARE", 1.5)


def _step_over(patch: Patch) -> None:
    stale = gossip.grant.Grants._stale
    patch.setattr(gossip.grant.Grants, "_stale", lambda self, asked: stale(self, replace(asked, claim=None)))


def _supersede(patch: Patch) -> None:
    patch.setattr(gossip.grant.Grants, "_supersede", lambda self, now, asked, held: self._grant(now, asked))


def _hearsay(patch: Patch) -> None:
    apply = gossip.knowledge.Knowledge._apply_standing

    def believe(self: Any, entry: Any, shown: Any, now: float) -> None:
        apply(self, entry, replace(shown, before=None), now)

    patch.setattr(gossip.knowledge.Knowledge, "_apply_standing", believe)


def _boot_order(patch: Patch) -> None:
    learn = gossip.roster.Roster.learn

    def learn_anything(self: Any, record: Any, now: float) -> Verdict:
        held = self.get(record.node)
        if held is None or record.node == self.own.node or record.standing >= held.standing:
            return learn(self, record, now)
        held.record = record
        self._move(held, record.standing.status, now)
        return Verdict.CHANGED

    patch.setattr(gossip.roster.Roster, "learn", learn_anything)
    patch.setattr(gossip.knowledge, "body_standing", lambda body: Standing(1 << 60, 0, Status.ALIVE))


def _own_vote(patch: Patch) -> None:
    patch.setattr(gossip.grant.Grants, "has_own_vote", lambda self, now, resource: True)


def _token_uses(patch: Patch) -> None:
    patch.setattr(transport.token_book, "_check_grant", lambda grant, repeated, now: None)


def _gossip_cap(patch: Patch) -> None:
    patch.setattr(gossip.post, "transmissions", lambda nodes: 1 << 20)


def _refutation(patch: Patch) -> None:
    patch.setattr(gossip.roster.Roster, "_refute", lambda self: Verdict.STALE)


def _own_death(patch: Patch) -> None:
    def accept(self: Any) -> Verdict:
        self.own.status = Status.DEAD
        return Verdict.REFUTED

    patch.setattr(gossip.roster.Roster, "_refute", accept)


def _packet_budget(patch: Patch) -> None:
    patch.setattr(gossip.post, "RUMOUR_BUDGET_BYTES", 4000)


def _fact_table(patch: Patch) -> None:
    patch.setattr(gossip.facts, "fingerprint", lambda versions: b"\0" * 8)


def _suspicion_time(patch: Patch) -> None:
    patch.setattr(gossip.suspicion.Suspicion, "timeout_s", property(lambda self: 1.0))


def _yielding(patch: Patch) -> None:
    decide = gossip.lease.Election.decide

    def never_yield(self: Any, *arguments: Any) -> Any:
        decision = decide(self, *arguments)
        return None if isinstance(decision, gossip.lease.Yield) else decision

    patch.setattr(gossip.lease.Election, "decide", never_yield)


MUTATIONS = (
    Mutation("of two connections of a pair one goes", "LinkTable._loser", _duplicate_connections, 4),
    Mutation("no more accusers are waited for than there are", "suspicion.accusers_needed", _clamp, 2),
    Mutation("an accusation of an earlier incarnation is stale", "Roster.accuse", _stale_accusation, 53),
    Mutation("a fact carries its owner's signature", "facts.open_fact", _signature(b"meshd-fact-v1"), 58),
    Mutation("a record carries its subject's signature", "member.open_member", _signature(b"meshd-member-v1"), 23),
    Mutation("a fact's value is the one that was signed", "facts.open_fact", _fact_digest, 6),
    Mutation("a pause is nobody else's fault", "Engine._notice_pause", _pause, 80),
    Mutation("a suspicion takes its time", "Suspicion.timeout_s", _suspicion_time, 1),
    Mutation("a death heard of in anti-entropy is a suspicion", "Knowledge._apply_standing", _hearsay, 39),
    Mutation("an older boot never replaces a later one", "Roster.learn", _boot_order, 92),
    Mutation("whoever is accused refutes", "Roster._refute", _refutation, 1),
    Mutation("nobody accepts its own death", "Roster._refute", _own_death, 1),
    Mutation("a rumour is told so often and no more", "broadcast.transmissions", _gossip_cap, 0),
    Mutation("a packet holds so many bytes of rumours", "message.RUMOUR_BUDGET_BYTES", _packet_budget, 0),
    Mutation("facts are complete only with the owner's table", "facts.fingerprint", _fact_table, 6),
    Mutation("the lower of two claims yields", "Election.decide", _yielding, 1),
    Mutation("a worker serves no term below its fence", "Fence.admits", _fence, 4),
    Mutation("a fence is on disk before the grant is told", "Grants.handle", _fsync, 2),
    Mutation("a host stops before its worker's time is up", "tenure.USABLE_SHARE", _lease_stop, 500),
    Mutation("a lease is waited out before the next begins", "Grants._supersede", _supersede, 39),
    Mutation("who slept does not step over its successor", "Grants._stale", _step_over, 35),
    Mutation("a vote given to another is not one's own", "Grants.has_own_vote", _own_vote, 39),
    Mutation("a token has so many uses", "token_book._check_grant", _token_uses, 0),
)


def caught_by(mutation: Mutation, seeds: Iterable[int]) -> tuple[int, str] | None:
    """The first of `seeds` that fails without the guard, and the invariant that it breaks."""
    with pytest.MonkeyPatch.context() as patch:
        mutation.remove(patch)
        for seed in seeds:
            try:
                run_schedule(draw_schedule(seed))
            except Failed as failed:
                return seed, failed.violation.name
    return None


def main() -> None:
    """Print the table, searching from the first seed on. Arguments: names of removals, to search for those only."""
    logging.disable(logging.CRITICAL)
    wanted = sys.argv[1:]
    for mutation in MUTATIONS:
        if wanted and mutation.remove.__name__ not in wanted:
            continue
        caught = caught_by(mutation, SEARCHED)
        seed, name = caught if caught is not None else ("none", f"not caught by {len(SEARCHED)} seeds")
        print(f"| {mutation.guard} | `{mutation.where}` | {seed} | {name} |", flush=True)


if __name__ == "__main__":
    main()
