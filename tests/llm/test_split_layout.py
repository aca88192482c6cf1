"""How a model is served: alone, split, later or never, by what it needs and what the nodes have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.split.layout import GB, Decision, Holder, Needs, Refuse, Solo, Split, Wait, decide, own_layers
from transport.interface import NodeId

LAYERS = 31


def node(name: str, gb: float, rtt_ms: float = 0.0, *, keeps_weights: bool = False) -> Holder:
    return Holder(NodeId(name.encode().ljust(32)), name, round(gb * GB), rtt_ms, keeps_weights)


def needs_of(gb: float, overhead_gb: float = 0.0, layers: int = LAYERS) -> Needs:
    """A model of so many GB in equal layers; each part has an overhead of its own."""

    def needs(shares: tuple[float, ...]) -> tuple[int, ...]:
        if not shares:
            return (round((gb + overhead_gb) * GB),)
        steps = layers + 1
        ends = [round(sum(shares[: place + 1]) / sum(shares) * steps) for place in range(len(shares))]
        counts = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        return tuple(round((gb * count / steps + overhead_gb) * GB) for count in counts)

    return needs


def chosen(gb: float, me: Holder, *others: Holder, forced: bool = False, overhead_gb: float = 0.0) -> Decision:
    return decide(me, others, needs_of(gb, overhead_gb), LAYERS, is_forced=forced)


def names(decision: Decision) -> list[str]:
    assert isinstance(decision, Split), decision
    return [part.holder.name for part in decision.parts]


def test_what_fits_here_is_served_here_though_others_idle() -> None:
    assert chosen(8, node("me", 10), node("big", 80)) == Solo(8 * GB)


def test_a_forced_split_shares_by_memory() -> None:
    decision = chosen(8, node("me", 20), node("half", 10), forced=True)

    assert isinstance(decision, Split)
    assert [(part.holder.name, part.share) for part in decision.parts] == [("me", 0.67), ("half", 0.33)]


def test_a_forced_split_with_nobody_to_share_with_is_served_here() -> None:
    assert isinstance(chosen(8, node("me", 20), forced=True), Solo)


def test_what_is_too_big_for_one_is_split_by_itself() -> None:
    assert names(chosen(15, node("me", 10), node("other", 10))) == ["me", "other"]


def test_as_few_nodes_as_hold_it() -> None:
    others = [node("small", 3, 1), node("tiny", 2, 1), node("large", 9, 30)]

    assert names(chosen(15, node("me", 10), *others)) == ["me", "large"]


def test_of_nodes_that_would_do_the_nearest() -> None:
    others = [node("far", 40, 20), node("near", 10, 9), node("nearer", 8, 4)]

    assert names(chosen(15, node("me", 10), *others)) == ["me", "nearer"]


def test_on_one_network_the_largest_whoever_answers_sooner_just_now() -> None:
    assert names(chosen(15, node("me", 10), node("a", 9, 0.2), node("b", 12, 2.1))) == ["me", "b"]


def test_a_split_comes_back_to_the_nodes_that_keep_its_weights() -> None:
    """Though another answers sooner just now, or is larger; not across the world, nor where it does not fit."""
    kept, others = node("kept", 9, 12, keeps_weights=True), (node("a", 9, 0.2), node("b", 12, 2.1))

    assert names(chosen(15, node("me", 10), *others, kept)) == ["me", "kept"]
    assert names(chosen(15, node("me", 10), *others, replace(kept, rtt_ms=80))) == ["me", "b"]
    assert names(chosen(15, node("me", 10), *others, replace(kept, usable_bytes=GB))) == ["me", "b"]


def test_more_nodes_that_keep_weights_go_before_larger_ones() -> None:
    kept = [node(name, 7, 4, keeps_weights=True) for name in "ab"]

    assert names(chosen(22, node("me", 10), node("c", 9), node("d", 9), *kept)) == ["me", "a", "b"]


def test_layers_move_where_a_proportional_share_would_overflow() -> None:
    # Proportional shares are 0.75 and 0.25; the overhead of 1 GB does not fit beside them at the small node.
    decision = chosen(11, node("me", 12), node("small", 4), forced=True, overhead_gb=1.3)

    assert isinstance(decision, Split)
    assert all(part.needed_bytes <= part.holder.usable_bytes for part in decision.parts)


def test_too_little_memory_waits_and_says_how_much_is_missing() -> None:
    decision = chosen(15, node("me", 10))

    assert isinstance(decision, Wait)
    assert decision.missing_bytes == 5 * GB
    assert "5 GB short" in decision.reason and "needs 15 GB" in decision.reason


def test_with_every_node_present_the_missing_memory_is_counted_over_all() -> None:
    decision = chosen(30, node("me", 10), node("other", 12))

    assert isinstance(decision, Wait)
    assert decision.missing_bytes == 8 * GB
    assert "10 + 12 GB" in decision.reason


def test_what_the_largest_number_of_nodes_cannot_hold_is_refused_with_the_arithmetic() -> None:
    decision = chosen(500, node("me", 10))

    assert isinstance(decision, Refuse)
    assert "needs 500 GB" in decision.reason and "17 nodes" in decision.reason and "offers 10 GB" in decision.reason


def test_a_part_that_fits_no_node_is_refused() -> None:
    assert isinstance(chosen(15, node("me", 10), node("other", 10), overhead_gb=11), Refuse)


def test_a_node_without_memory_takes_no_part() -> None:
    assert isinstance(chosen(15, node("me", 10), node("empty", 0)), Wait)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_the_order_in_which_nodes_are_known_changes_nothing(order: Sequence[int]) -> None:
    others = [node("a", 5, 1), node("b", 5, 1), node("c", 6, 20)]

    assert names(chosen(18, node("me", 10), *(others[place] for place in order))) == ["me", "a", "b"]


@given(
    st.floats(0.5, 200),
    st.lists(st.tuples(st.floats(0.1, 50), st.floats(0, 40)), max_size=6),
    st.floats(0, 2),
    st.booleans(),
)
def test_whatever_is_decided_fits(
    gb: float, sizes: list[tuple[float, float]], overhead_gb: float, forced: bool
) -> None:
    me, *others = [node(f"n{place}", size, rtt) for place, (size, rtt) in enumerate([(8.0, 0.0), *sizes])]

    match chosen(gb, me, *others, forced=forced, overhead_gb=overhead_gb):
        case Solo(needed_bytes):
            assert needed_bytes <= me.usable_bytes
        case Split(parts):
            assert parts[0].holder == me and len(parts) > 1
            assert all(part.needed_bytes <= part.holder.usable_bytes and part.share > 0 for part in parts)
        case Wait(missing_bytes, reason):
            assert missing_bytes > 0 and "GB short" in reason
        case Refuse(reason):
            assert "cannot fit" in reason


@pytest.mark.parametrize(
    ("shares", "own"), [((0.67, 0.33), 21), ((0.01, 0.99), 1), ((1.0,), LAYERS), ((1.0, 1.0, 2.0), 8)]
)
def test_a_leader_keeps_its_share_of_the_layers_at_least_one_and_no_more_than_there_are(
    shares: tuple[float, ...], own: int
) -> None:
    assert own_layers(shares, LAYERS) == own
