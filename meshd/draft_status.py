"""Drafting on other hosts, as status, plans and metrics show it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gossip.view import Status, View
from llm.draft.fact import Found, drafters_of
from llm.draft.tally import Account, Tally
from llm.engines.interface import Drafting
from llm.sessions.drafting import LEAST_SPEEDUP, MOST_TOKENS, Costs


def draft_row(one: Account) -> dict[str, Any]:
    """How it goes for one model's sessions: the state and the numbers that it comes from."""
    tally = one.tally
    return {
        "model": tally.model,
        "drafter": tally.drafter,
        "node": one.node,
        "state": tally.state,
        "reason": reason(tally),
        "speedup": round(tally.speedup, 3),
        "tokens_at_a_time": tally.best,
        "chance": round(tally.chance, 3),
        "plain_ms": _ms(tally.plain_s),
        "verify_ms": _ms(tally.verify_s),
        "draft_ms": _ms(tally.draft_s),
        "round_trip_ms": _ms(tally.round_trip_s),
        "break_even_ms": _ms(tally.break_even_s),
        "blocks": tally.blocks,
        "drafted": tally.drafted,
        "accepted": tally.accepted,
        "missed": tally.missed,
    }


def local_rows(drafting: Mapping[str, Drafting]) -> list[dict[str, Any]]:
    """What becomes of the drafts that this node's own engines make, by model."""
    return [
        {
            "model": model,
            "drafter": one.drafter,
            "state": one.state,
            "is_drafting": one.is_drafting,
            "speedup": round(one.speedup, 3),
            "drafted": one.drafted,
            "accepted": one.accepted,
            "reason": one.reason,
        }
        for model, one in sorted(drafting.items())
    ]


def reason(tally: Tally) -> str:
    """The state in words."""
    way, even = _ms(tally.round_trip_s), _ms(tally.break_even_s)
    match tally.state:
        case "on":
            return (
                f"blocks of {tally.best} should be {tally.speedup:.2f} times as fast as plain decoding: {way} ms there "
                f"and back, and it would pay up to {even} ms"
            )
        case "off":
            return f"it would be {tally.speedup:.2f} times as fast, {way} ms away; it is tried again now and then"
        case "never":
            return (
                f"even drafts that are always right would be {tally.speedup:.2f} times as fast: a token takes "
                f"{_ms(tally.plain_s)} ms, the way there and back {way} ms"
            )


def plan_rows(accounts: Sequence[Account], drafters: Sequence[Found], model: str, plain_s: float) -> list[str]:
    """Which nodes could draft for a model, for people. plain_s: a token without drafts, as planned; 0 for unknown."""
    rows = []
    for found in drafters:
        name, account = found.node.name, next((one for one in accounts if one.tally.model == model), None)
        if account is not None and (account.node, account.tally.drafter) == (name, found.offer.model):
            verdict = f"{account.tally.state}: {reason(account.tally)}"
        else:
            verdict = _ideal(plain_s, found.offer.token_s, found.round_trip_s)
        token_ms, way_ms = _ms(found.offer.token_s), _ms(found.round_trip_s)
        rows.append(f"{found.offer.model} on {name} ({token_ms} ms a token, {way_ms} ms there and back): {verdict}")
    return rows


def _ideal(plain_s: float, token_s: float, round_trip_s: float) -> str:
    """What drafts that are always right would gain, if a block were verified in the time of one token."""
    if not plain_s:
        return "whether that pays is measured when its sessions ask"
    costs = Costs(plain_s, lambda count: plain_s, lambda count: count * token_s, round_trip_s)
    best = max(costs.speedup(count, count) for count in range(1, MOST_TOKENS + 1))
    if best <= LEAST_SPEEDUP:
        return f"never: even drafts that are always right would be {best:.2f} times as fast"
    return f"at most {best:.2f} times as fast; whether that pays is measured when its sessions ask"


def drafter_rows(view: View) -> list[dict[str, Any]]:
    """Who drafts in this mesh, and how fast."""
    return [
        {"node": node.name, "model": offer.model, "vocabulary": offer.vocabulary, "token_ms": _ms(offer.token_s)}
        for node in view.nodes
        if node.status < Status.DEAD
        for offer in drafters_of(node)
    ]


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 2)
