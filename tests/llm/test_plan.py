"""Choices for a model: what fits where, how fast, and what is advised."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm.gguf import read_header
from llm.plan import Candidate, Choice, Question, bytes_per_token, plan
from llm.plan_speed import Fit
from llm.split.layout import Holder
from tests.llm.architectures import PLANS, write_architecture
from tests.llm.views import node_id

GB = 1 << 30
MODEL_GB = 12
FITTED = Fit(1.6, 1.5, 2.0, 0.0)


def candidate(
    number: int,
    free_gb: float,
    *,
    rtt_ms: float = 0.0,
    measured: float = 0.0,
    serves: bool = False,
    speed: float = 60e9,
) -> Candidate:
    holder = Holder(node_id(number), f"n{number}", int(free_gb * GB), rtt_ms)
    return Candidate(holder, "cuda", speed, "RAM of 60 GB/s, measured", measured, serves)


def needs(shares: tuple[float, ...]) -> tuple[int, ...]:
    whole = MODEL_GB * GB
    return tuple(int(whole * share / sum(shares)) for share in shares) or (whole,)


def ask(*candidates: Candidate, is_forced: bool = False, layers: int = 23) -> list[Choice]:
    question = Question(lambda one: needs, layers, 12 * 10**9, FITTED, is_forced)
    return list(plan(question, candidates))


def only(choices: list[Choice], kind: str) -> Choice:
    (found,) = (choice for choice in choices if choice.kind == kind)
    return found


def speed(choice: Choice) -> float:
    assert choice.speed is not None
    return choice.speed.likely


def test_one_node_with_room_serves_alone() -> None:
    (choice,) = ask(candidate(1, 16))
    assert (choice.kind, choice.is_advised, choice.reason) == ("solo", True, "fits: 12 of 16 GB")
    assert choice.parts[0].layers == 24


def test_losing_split_is_shown_and_advised_against() -> None:
    choices = ask(candidate(1, 16, measured=40), candidate(2, 16, rtt_ms=20))
    split = only(choices, "split")
    assert (choices[0].kind, choices[0].is_advised) == ("solo", True)
    assert not split.is_advised
    assert split.reason.startswith("advised against: ")
    assert f"{speed(split):.3g} against 40 tokens/s on n1 alone" in split.reason
    assert "--split forces it" in split.reason


def test_losing_split_is_taken_when_forced_and_says_what_it_costs() -> None:
    choices = ask(candidate(1, 16, measured=40), candidate(2, 16, rtt_ms=20), is_forced=True)
    assert (choices[0].kind, choices[0].is_advised) == ("split", True)
    assert choices[0].reason.startswith("forced, though slower: ")


def test_split_is_advised_where_nobody_has_room_alone() -> None:
    choices = ask(candidate(1, 8), candidate(2, 6, rtt_ms=2))
    assert (choices[0].kind, choices[0].is_advised) == ("split", True)
    assert [(part.node, part.layers) for part in choices[0].parts] == [("n1", 14), ("n2", 10)]
    alone = [choice for choice in choices if choice.kind == "solo"]
    assert [choice.reason for choice in alone] == [
        "4 GB short: needs 12 GB, 8 GB are free",
        "6 GB short: needs 12 GB, 6 GB are free",
    ]


def test_split_speed_is_the_formula() -> None:
    split = only(ask(candidate(1, 16, measured=40), candidate(2, 16, rtt_ms=20, measured=40)), "split")
    assert speed(split) == pytest.approx(1000 / (25 + 1.6 * 20))
    assert "C 25 ms, k 1.60 (1.50 to 2.00), RTT 20 ms" in split.basis


def test_slower_node_of_a_split_counts_by_its_share() -> None:
    # 3 : 1 by memory; 20 ms a token alone on one, 80 on the other.
    split = only(ask(candidate(1, 18, measured=50), candidate(2, 6, measured=12.5)), "split")
    assert [part.layers for part in split.parts] == [18, 6]
    assert speed(split) == pytest.approx(1000 / (20 * 3 / 4 + 80 / 4))


def test_largest_node_leads_and_distances_count_from_there() -> None:
    split = only(ask(candidate(1, 4, rtt_ms=0), candidate(2, 6, rtt_ms=5), candidate(3, 4, rtt_ms=7)), "split")
    assert split.parts[0].node == "n2"
    assert [part.node for part in split.parts[1:]] == ["n1", "n3"]
    # 5 ms from the leader to this node, 5 + 7 to the other one at most.
    assert "RTT 5 + 12 ms" in split.basis


def test_nothing_fits_yet_says_how_much_is_missing() -> None:
    choices = ask(candidate(1, 6), candidate(2, 4))
    assert (choices[0].kind, choices[0].is_advised) == ("wait", True)
    assert "2 GB short" in choices[0].reason


def test_never_fits_is_refused_with_the_arithmetic() -> None:
    choices = ask(candidate(1, 0.5), layers=7)
    assert (choices[0].kind, choices[0].is_advised) == ("refuse", True)
    assert "cannot fit: it needs 12 GB on one node" in choices[0].reason
    assert "largest node here (n1) offers 0.5 GB" in choices[0].reason


def test_node_that_serves_it_needs_no_more_room() -> None:
    (choice,) = ask(candidate(1, 1, measured=33, serves=True))
    assert (choice.is_possible, choice.reason, choice.basis) == (True, "serves it already", "measured there alone")
    assert speed(choice) == 33


def test_estimate_is_labelled_and_wide() -> None:
    (choice,) = ask(candidate(1, 16))
    assert choice.basis == "estimated: 12 GB a token, RAM of 60 GB/s, measured"
    assert choice.speed is not None
    assert choice.speed.low < 3.1 < choice.speed.high


def test_faster_node_is_advised_of_two_that_fit() -> None:
    choices = ask(candidate(1, 16, speed=50e9), candidate(2, 14, speed=900e9, rtt_ms=3))
    assert choices[0].parts[0].node == "n2"


def test_token_reads_only_the_experts_it_uses(tmp_path: Path) -> None:
    dense = read_header(write_architecture(tmp_path / "dense.gguf", PLANS["llama"]))
    sparse = read_header(write_architecture(tmp_path / "sparse.gguf", PLANS["mixtral"]))
    size = {each.name: each.size_bytes for each in (*dense.tensors, *sparse.tensors)}
    everything = sum(each.size_bytes for each in dense.tensors)
    assert bytes_per_token(dense) == everything - size["token_embd.weight"] - size["output_norm.weight"]
    experts = sum(each.size_bytes for each in sparse.tensors if "_exps" in each.name)
    read = sum(each.size_bytes for each in sparse.tensors) - size["token_embd.weight"] - size["output_norm.weight"]
    assert bytes_per_token(sparse) == read - experts // 2


def test_fast_models_are_told_in_plain_digits() -> None:
    choices = ask(candidate(1, 16, measured=4000), candidate(2, 16, rtt_ms=20))
    assert "against 4,000 tokens/s on n1 alone" in only(choices, "split").reason
