"""The election of hosts."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from gossip.lease import (
    CHALLENGE_S,
    CLAIMS,
    GIB,
    MAX_TERM_LEAP,
    STEP_UP_S,
    UNHEALTHY_S,
    Candidate,
    Claim,
    Decision,
    Election,
    Yield,
    claims,
    encode_claims,
    preference,
    standing_claim,
)
from gossip.view import NodeView, Status, View
from transport.interface import NodeId, Role

MODEL = "host/qwen"
ALICE, BOB, CAROL = (NodeId(bytes([letter]) * 32) for letter in b"abc")


@dataclass
class Mesh:
    """A little world: scores, statuses, and the claims that nodes have published."""

    scores: dict[NodeId, int]
    statuses: dict[NodeId, Status] = field(default_factory=dict)
    ages_s: dict[NodeId, float] = field(default_factory=dict)
    unwell: tuple[NodeId, ...] = ()
    published: dict[NodeId, Claim] = field(default_factory=dict)
    elections: dict[NodeId, Election] = field(default_factory=dict)
    now: float = 1000.0

    def view(self, me: NodeId) -> View:
        others = sorted(node for node in self.scores if node != me)
        return View(1, tuple(self._node(node) for node in (me, *others)))

    def _node(self, node: NodeId) -> NodeView:
        claim = self.published.get(node)
        facts = {CLAIMS: encode_claims([claim])} if claim is not None else {}
        status = self.statuses.get(node, Status.ALIVE)
        return NodeView(node, "", Role.MEMBER, status, 1, 0, (), facts, None, True, self.ages_s.get(node, 100.0))

    def decide(self, me: NodeId) -> Decision:
        offers = [Candidate(node, score, node not in self.unwell) for node, score in self.scores.items()]
        election = self.elections.setdefault(me, Election())
        return election.decide(MODEL, offers, self.view(me), self.now)

    def step(self, seconds: float = 1.0) -> None:
        """Let everyone who can decide, and publish what they decided."""
        decisions = {node: self.decide(node) for node in self.scores if self.statuses.get(node, 0) == Status.ALIVE}
        for node, decision in decisions.items():
            if isinstance(decision, Claim):
                self.published[node] = decision
            elif isinstance(decision, Yield):
                self.published.pop(node, None)
        self.now += seconds

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.step()

    @property
    def host(self) -> NodeId | None:
        claim = claims(self.view(next(iter(self.scores)))).get(MODEL)
        return claim.host if claim is not None else None


def test_the_node_with_the_most_memory_claims_the_first_term() -> None:
    mesh = Mesh({ALICE: 8 * GIB, BOB: 24 * GIB, CAROL: 16 * GIB})
    assert mesh.decide(ALICE) is None
    assert mesh.decide(CAROL) is None
    assert mesh.decide(BOB) == Claim(MODEL, 1, 24 * GIB, BOB)


def test_the_first_election_of_a_mesh_need_not_wait_ten_seconds() -> None:
    mesh = Mesh({ALICE: 8 * GIB}, ages_s={ALICE: 0.9})
    assert mesh.decide(ALICE) is None
    mesh.ages_s[ALICE] = 1.0
    assert isinstance(mesh.decide(ALICE), Claim)


def test_later_ones_wait_until_a_candidate_has_been_in_view_for_ten_seconds() -> None:
    mesh = Mesh({ALICE: 8 * GIB, BOB: 24 * GIB}, ages_s={ALICE: 9.9})
    mesh.published[BOB] = Claim(MODEL, 3, 24 * GIB, BOB)
    mesh.statuses[BOB] = Status.DEAD
    assert mesh.decide(ALICE) is None
    mesh.ages_s[ALICE] = 10.0
    assert mesh.decide(ALICE) == Claim(MODEL, 4, 8 * GIB, ALICE)


def test_equals_are_ordered_by_a_hash_that_differs_between_resources() -> None:
    offers = [Candidate(NodeId(bytes([index]) * 32), 8 * GIB + index, True) for index in range(20)]
    winners = [max(offers, key=lambda offer: preference(f"host/{model}", offer)).node for model in range(20)]
    assert len({*winners}) > 5
    mesh = Mesh({ALICE: 8 * GIB, BOB: 8 * GIB + 1000})
    mesh.step()
    expected = max((ALICE, BOB), key=lambda node: preference(MODEL, Candidate(node, 8 * GIB, True)))
    assert mesh.host == expected


def test_the_incumbent_stays_when_a_slightly_larger_node_comes() -> None:
    mesh = Mesh({ALICE: 20 * GIB, BOB: 24 * GIB})
    mesh.published[ALICE] = Claim(MODEL, 1, 20 * GIB, ALICE)
    mesh.run(300)
    assert mesh.host == ALICE


def test_a_challenger_a_quarter_larger_takes_over_after_a_minute() -> None:
    mesh = Mesh({ALICE: 16 * GIB, BOB: 20 * GIB})
    mesh.published[ALICE] = Claim(MODEL, 4, 16 * GIB, ALICE)
    mesh.run(CHALLENGE_S)
    assert mesh.host == ALICE
    mesh.run(3)
    assert mesh.published == {BOB: Claim(MODEL, 5, 20 * GIB, BOB)}


def test_a_challenger_that_is_unwell_for_a_moment_starts_its_minute_anew() -> None:
    mesh = Mesh({ALICE: 16 * GIB, BOB: 32 * GIB})
    mesh.published[ALICE] = Claim(MODEL, 1, 16 * GIB, ALICE)
    mesh.run(50)
    mesh.unwell = (BOB,)
    mesh.step()
    mesh.unwell = ()
    mesh.run(50)
    assert mesh.host == ALICE


@pytest.mark.parametrize("end", [Status.DEAD, Status.LEFT])
def test_a_host_that_is_gone_is_succeeded_in_the_next_term(end: Status) -> None:
    mesh = Mesh({ALICE: 8 * GIB, BOB: 24 * GIB})
    mesh.published[BOB] = Claim(MODEL, 7, 24 * GIB, BOB)
    mesh.run(5)
    mesh.statuses[BOB] = end
    mesh.step()
    assert mesh.published[ALICE] == Claim(MODEL, 8, 8 * GIB, ALICE)
    assert mesh.host == ALICE


def test_a_suspect_host_keeps_its_seat() -> None:
    mesh = Mesh({ALICE: 8 * GIB, BOB: 24 * GIB})
    mesh.published[BOB] = Claim(MODEL, 1, 24 * GIB, BOB)
    mesh.statuses[BOB] = Status.SUSPECT
    mesh.run(20)
    assert mesh.host == BOB


def test_an_unwell_host_is_succeeded_after_half_a_minute() -> None:
    mesh = Mesh({ALICE: 8 * GIB, BOB: 24 * GIB})
    mesh.published[BOB] = Claim(MODEL, 1, 24 * GIB, BOB)
    mesh.unwell = (BOB,)
    mesh.run(UNHEALTHY_S)
    assert mesh.host == BOB
    mesh.run(3)
    assert mesh.published == {ALICE: Claim(MODEL, 2, 8 * GIB, ALICE)}


def test_an_unwell_host_without_a_successor_yields_and_may_come_back() -> None:
    mesh = Mesh({ALICE: 8 * GIB})
    mesh.run(2)
    mesh.unwell = (ALICE,)
    mesh.run(UNHEALTHY_S + 2)
    assert mesh.host is None
    mesh.unwell = ()
    mesh.run(2)
    assert mesh.published == {ALICE: Claim(MODEL, 2, 8 * GIB, ALICE)}


def test_of_two_claims_in_one_term_the_larger_stands_and_the_other_yields() -> None:
    mesh = Mesh({ALICE: 8 * GIB, BOB: 24 * GIB})
    mesh.published = {ALICE: Claim(MODEL, 3, 8 * GIB, ALICE), BOB: Claim(MODEL, 3, 24 * GIB, BOB)}
    assert mesh.host == BOB
    assert mesh.decide(BOB) is None
    assert isinstance(mesh.decide(ALICE), Yield)


def test_a_higher_term_stands_above_a_larger_node() -> None:
    mesh = Mesh({ALICE: 8 * GIB, BOB: 24 * GIB})
    mesh.published = {ALICE: Claim(MODEL, 4, 8 * GIB, ALICE), BOB: Claim(MODEL, 3, 24 * GIB, BOB)}
    assert mesh.host == ALICE
    assert isinstance(mesh.decide(BOB), Yield)


def test_equal_claims_are_settled_by_the_id() -> None:
    mesh = Mesh({ALICE: 8 * GIB, BOB: 8 * GIB})
    mesh.published = {node: Claim(MODEL, 3, 8 * GIB, node) for node in (ALICE, BOB)}
    assert mesh.host == BOB


def test_a_term_once_seen_is_never_used_again() -> None:
    mesh = Mesh({ALICE: 8 * GIB, BOB: 24 * GIB})
    mesh.published[BOB] = Claim(MODEL, 9, 24 * GIB, BOB)
    mesh.run(2)
    # Bob restarts and its facts are gone.
    mesh.published.clear()
    mesh.statuses[BOB] = Status.DEAD
    mesh.step()
    assert mesh.published[ALICE].term == 10


def test_a_refused_host_steps_up_when_nobody_else_has_shown_up_for_a_while() -> None:
    mesh = Mesh({ALICE: 8 * GIB, BOB: 24 * GIB})
    mesh.run(2)
    assert mesh.host == BOB
    mesh.elections[BOB].refused(MODEL, 6)
    mesh.run(STEP_UP_S)
    assert mesh.published[BOB].term == 1
    mesh.step()
    assert mesh.published[BOB].term == 7
    mesh.run(20)
    assert mesh.published == {BOB: Claim(MODEL, 7, 24 * GIB, BOB)}


def test_a_host_that_slept_gives_way_to_the_successor_that_refusals_speak_of() -> None:
    mesh = Mesh({ALICE: 8 * GIB, BOB: 24 * GIB})
    mesh.run(2)
    mesh.elections[BOB].refused(MODEL, 2)
    mesh.step()
    assert mesh.published[BOB].term == 1
    mesh.published[ALICE] = Claim(MODEL, 2, 8 * GIB, ALICE)
    mesh.run(30)
    assert mesh.published == {ALICE: Claim(MODEL, 2, 8 * GIB, ALICE)}


def test_what_this_node_remembers_from_its_disk_is_exceeded() -> None:
    mesh = Mesh({ALICE: 8 * GIB})
    mesh.elections[ALICE] = Election()
    mesh.elections[ALICE].recall(MODEL, 41)
    assert mesh.decide(ALICE) == Claim(MODEL, 42, 8 * GIB, ALICE)


def test_an_absurd_leap_of_terms_is_not_believed() -> None:
    mesh = Mesh({ALICE: 8 * GIB, BOB: 24 * GIB})
    mesh.run(2)
    mesh.published[ALICE] = Claim(MODEL, MAX_TERM_LEAP + 2, 8 * GIB, ALICE)
    assert mesh.decide(BOB) is None
    assert standing_claim(mesh.view(BOB), MODEL, 1) == Claim(MODEL, 1, 24 * GIB, BOB)
    mesh.elections[BOB].refused(MODEL, MAX_TERM_LEAP + 2)
    del mesh.published[ALICE]
    for _ in range(20):
        mesh.now += 1
        assert mesh.decide(BOB) is None
    mesh.published[ALICE] = Claim(MODEL, MAX_TERM_LEAP + 1, 8 * GIB, ALICE)
    assert isinstance(mesh.decide(BOB), Yield)


def test_malformed_claims_count_as_none_and_clients_have_none() -> None:
    def node(which: NodeId, role: Role, fact: bytes) -> NodeView:
        return NodeView(which, "", role, Status.ALIVE, 1, 0, (), {CLAIMS: fact}, None, True, 100.0)

    good = encode_claims([Claim(MODEL, 1, GIB, CAROL)])
    view = View(1, (node(ALICE, Role.MEMBER, b"\xc1"), node(BOB, Role.CLIENT, good), node(CAROL, Role.MEMBER, good)))
    assert claims(view) == {MODEL: Claim(MODEL, 1, GIB, CAROL)}


def test_three_nodes_that_start_at_once_settle_on_one_host() -> None:
    mesh = Mesh({ALICE: 8 * GIB, BOB: 24 * GIB, CAROL: 24 * GIB})
    mesh.run(10)
    assert len(mesh.published) == 1
    assert mesh.host in (BOB, CAROL)
