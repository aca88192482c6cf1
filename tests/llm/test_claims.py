"""Which models this node claims to host, as offers come and go."""

from __future__ import annotations

import msgspec
import pytest

from gossip.facts import GPU, Device, GpuFact
from gossip.lease import CLAIMS, STEP_UP_S, Claim, encode_claims
from gossip.view import NodeView, Status, View
from llm.claims import Change, Claims, Lost, Won, candidates, resource_of, usable_bytes
from llm.offer import MODELS_FACT, Offer, catalogue, encode_offers
from transport.interface import NodeId, Role
from transport.wire import encode

GIB = 1 << 30
ME, OTHER = NodeId(b"m" * 32), NodeId(b"o" * 32)
TOY = resource_of("toy")


def offer(state: str = "ready", name: str = "toy") -> Offer:
    return Offer(name, "ab" * 32, "", "echo", "solo", state, "", 4096, 4, 0, 0.0)  # type: ignore[arg-type]


def node(node_id: NodeId, gib: int, facts: dict[str, bytes] | None = None) -> NodeView:
    gpu = encode(GpuFact((Device("card", "cuda", gib * GIB, gib * GIB),)))
    return NodeView(
        node=node_id,
        name=node_id[:1].decode(),
        role=Role.MEMBER,
        status=Status.ALIVE,
        boot=1,
        incarnation=0,
        addresses=(),
        facts={GPU: gpu, **(facts or {})},
        rtt_ms=1.0,
        linked=True,
        known_for_s=100.0,
    )


def view(mine: NodeView, *others: NodeView) -> View:
    return View(1, (mine, *others))


def offering(node_id: NodeId, gib: int, *models: Offer, **facts: bytes) -> NodeView:
    return node(node_id, gib, {MODELS_FACT: encode_offers(models), **facts})


def no_term(resource: str) -> int:
    """Nothing is on disk."""
    return 0


def settle(claims: Claims, now_seen: View, offers: tuple[Offer, ...], now: float = 10.0) -> list[Change]:
    """One election, after which what was won is held."""
    changes = claims.update(now_seen, offers, now)
    for change in changes:
        if isinstance(change, Won):
            claims.hold(change.claim)
    return changes


def test_a_lone_node_claims_what_it_serves() -> None:
    claims = Claims(ME, no_term)

    assert settle(claims, view(node(ME, 8)), (offer(),)) == [Won(Claim(TOY, 1, 8 * GIB, ME))]
    assert claims.fact == encode_claims([Claim(TOY, 1, 8 * GIB, ME)])


def test_what_was_won_is_claimed_only_when_it_is_held() -> None:
    claims = Claims(ME, no_term)
    claims.update(view(node(ME, 8)), (offer(),), 10.0)

    assert claims.fact == encode_claims([])


def test_a_restarted_host_exceeds_every_term_that_its_disk_knows_of() -> None:
    claims = Claims(ME, {TOY: 6}.__getitem__)

    assert settle(claims, view(node(ME, 8)), (offer(),)) == [Won(Claim(TOY, 7, 8 * GIB, ME))]


def test_a_host_that_a_worker_refused_steps_up() -> None:
    claims = Claims(ME, no_term)
    settle(claims, view(node(ME, 8)), (offer(),))
    mine = offering(ME, 8, offer(), **{CLAIMS: claims.fact})
    assert settle(claims, view(mine), (offer(),)) == []

    claims.refused(TOY, 4)

    assert settle(claims, view(mine), (offer(),)) == []
    assert settle(claims, view(mine), (offer(),), now=10.0 + STEP_UP_S) == [Won(Claim(TOY, 5, 8 * GIB, ME))]


def test_a_model_that_still_loads_is_not_claimed() -> None:
    claims = Claims(ME, no_term)

    assert not settle(claims, view(node(ME, 8)), (offer("loading"),))


def test_of_two_the_larger_claims() -> None:
    small, large = Claims(ME, no_term), Claims(OTHER, no_term)
    mine, theirs = offering(ME, 8, offer()), offering(OTHER, 24, offer())

    assert not settle(small, view(mine, theirs), (offer(),))
    assert settle(large, view(theirs, mine), (offer(),))


def test_a_claim_is_lost_when_the_model_is_served_no_more() -> None:
    claims = Claims(ME, no_term)
    settle(claims, view(node(ME, 8)), (offer(),))

    assert settle(claims, view(node(ME, 8)), (), now=11.0) == [
        Lost(Claim(TOY, 1, 8 * GIB, ME), "it is not served here any more")
    ]
    assert claims.fact == encode_claims([])


def test_the_loser_of_a_conflict_is_told_so_once() -> None:
    claims = Claims(ME, no_term)
    settle(claims, view(node(ME, 8)), (offer(),))
    mine = offering(ME, 8, offer(), **{CLAIMS: claims.fact})
    theirs = offering(OTHER, 24, offer(), **{CLAIMS: encode_claims([Claim(TOY, 1, 24 * GIB, OTHER)])})

    (lost,) = settle(claims, view(mine, theirs), (offer(),), now=11.0)
    assert isinstance(lost, Lost) and lost.claim == Claim(TOY, 1, 8 * GIB, ME)
    assert claims.fact == encode_claims([])
    assert settle(claims, view(mine, theirs), (offer(),), now=12.0) == []


def test_candidates_are_scored_by_capacity_and_need_a_ready_engine() -> None:
    (model,) = catalogue(view(node(ME, 8), offering(OTHER, 24, offer("loading"))), (offer(),))

    assert {(one.node, one.score // GIB, one.is_eligible) for one in candidates(model)} == {
        (ME, 8, True),
        (OTHER, 24, False),
    }


@pytest.mark.parametrize(
    ("mode", "state", "is_eligible"),
    [
        ("split", "waiting", True),
        ("split", "loading", True),
        ("split", "ready", True),
        ("split", "failed", False),
        ("solo", "waiting", False),
        ("solo", "loading", False),
    ],
)
def test_who_would_lead_a_split_stands_for_election_before_there_is_an_engine(
    mode: str, state: str, is_eligible: bool
) -> None:
    offered = msgspec.structs.replace(offer(), mode=mode, state=state)
    (model,) = catalogue(view(node(ME, 8)), (offered,))

    assert [one.is_eligible for one in candidates(model)] == [is_eligible]


def test_a_malformed_description_counts_as_no_memory() -> None:
    assert usable_bytes(node(ME, 8, {GPU: b"\xc1"})) == 0
