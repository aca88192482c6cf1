"""Which models this node claims to host, as offers come and go."""

from __future__ import annotations

from gossip.facts import GPU, Device, GpuFact
from gossip.lease import CLAIMS, Claim, encode_claims
from gossip.view import NodeView, Status, View
from llm.claims import Claims, candidates, resource_of, usable_bytes
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


def test_a_lone_node_claims_what_it_serves() -> None:
    claims = Claims(ME)

    assert claims.update(view(node(ME, 8)), (offer(),), now=10.0)
    assert claims.fact == encode_claims([Claim(TOY, 1, 8 * GIB, ME)])


def test_a_model_that_still_loads_is_not_claimed() -> None:
    claims = Claims(ME)

    assert not claims.update(view(node(ME, 8)), (offer("loading"),), now=10.0)


def test_of_two_the_larger_claims() -> None:
    small, large = Claims(ME), Claims(OTHER)
    mine, theirs = offering(ME, 8, offer()), offering(OTHER, 24, offer())

    assert not small.update(view(mine, theirs), (offer(),), now=10.0)
    assert large.update(view(theirs, mine), (offer(),), now=10.0)


def test_a_claim_is_withdrawn_when_the_model_is_served_no_more() -> None:
    claims = Claims(ME)
    claims.update(view(node(ME, 8)), (offer(),), now=10.0)

    assert claims.update(view(node(ME, 8)), (), now=11.0)
    assert claims.fact == encode_claims([])


def test_the_loser_of_a_conflict_yields() -> None:
    claims = Claims(ME)
    claims.update(view(node(ME, 8)), (offer(),), now=10.0)
    mine = offering(ME, 8, offer(), **{CLAIMS: claims.fact})
    theirs = offering(OTHER, 24, offer(), **{CLAIMS: encode_claims([Claim(TOY, 1, 24 * GIB, OTHER)])})

    assert claims.update(view(mine, theirs), (offer(),), now=11.0)
    assert claims.fact == encode_claims([])


def test_candidates_are_scored_by_capacity_and_need_a_ready_engine() -> None:
    (model,) = catalogue(view(node(ME, 8), offering(OTHER, 24, offer("loading"))), (offer(),))

    assert {(one.node, one.score // GIB, one.is_eligible) for one in candidates(model)} == {
        (ME, 8, True),
        (OTHER, 24, False),
    }


def test_a_malformed_description_counts_as_no_memory() -> None:
    assert usable_bytes(node(ME, 8, {GPU: b"\xc1"})) == 0
