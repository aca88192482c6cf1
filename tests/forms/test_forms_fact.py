"""What a node tells of its forms: what is worth telling, and what others make of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forms.cost import Cost, Line, scaled, slowness
from forms.forms_fact import (
    NOTHING,
    FormsFact,
    cost_in,
    decode_fact,
    encode_fact,
    fact_of,
    is_worth_telling,
    read_forms,
)
from gossip.view import NodeView, Status
from transport.interface import NodeId, Role

SORT = Cost("cuda-radix-sort", False, "cpu", Line(0.001, 1.23456e-7), 0.5, 40, 0.0625)
SHAKE = Cost("cuda-shake-fanout", True, "cuda", Line(0.002, 4e-8), 1.5, 7, None)
PEER = NodeId(b"\x07" * 32)


def told(*costs: Cost, queue_s: float = 0.0, is_warm: bool = True) -> FormsFact:
    return fact_of(costs, is_warm=is_warm, queue_s=queue_s)


def test_what_is_told_is_read_but_for_digits_that_say_nothing() -> None:
    read = decode_fact(encode_fact(told(SORT, SHAKE)), PEER)
    assert cost_in(read, "cuda-radix-sort", is_text=False) == replace(SORT, line=Line(0.001, 1.23e-7), error=0.062)
    assert cost_in(read, "cuda-shake-fanout", is_text=True) == SHAKE
    assert cost_in(read, "cuda-shake-fanout", is_text=False) is None


@pytest.mark.parametrize(
    ("before", "now", "is_worth"),
    [
        (NOTHING, told(SORT), True),
        (told(SORT), told(SORT), False),
        (told(SORT), told(SORT, SHAKE), True),
        (told(SORT), told(replace(SORT, line=Line(0.0011, 1.4e-7))), False),
        (told(SORT), told(replace(SORT, line=Line(0.001, 1.6e-7))), True),
        (told(SORT), told(replace(SORT, line=Line(0.003, 1.23e-7))), True),
        (told(SORT), told(replace(SORT, cold_s=0.55)), False),
        (told(SORT), told(replace(SORT, calls=900, error=0.5)), False),
        (told(SORT), told(replace(SORT, backend="cuda")), True),
        (told(SORT), told(SORT, is_warm=False), True),
        (told(SORT), told(SORT, queue_s=0.09), False),
        (told(SORT), told(SORT, queue_s=0.2), True),
        (told(SORT, queue_s=0.45), told(SORT, queue_s=0.7), False),
        (told(SORT, queue_s=0.45), told(SORT, queue_s=0.9), True),
        (told(SORT, queue_s=0.45), told(SORT), True),
    ],
)
def test_only_what_changes_a_choice_is_worth_telling(before: FormsFact, now: FormsFact, is_worth: bool) -> None:
    assert is_worth_telling(before, now) == is_worth


def test_a_form_of_the_longest_name_does_not_spoil_the_others() -> None:
    named = replace(SORT, form="f" * 100)
    read = decode_fact(encode_fact(told(SORT, named)), PEER)
    assert [row.form for row in read.costs] == [SORT.form, named.form]


def test_nonsense_is_nothing() -> None:
    node = NodeView(PEER, "n", Role.MEMBER, Status.ALIVE, 1, 0, (), {"forms": b"\xc1"}, None, True, 1.0)
    assert read_forms(node) == NOTHING
    assert read_forms(replace(node, facts={})) == NOTHING


def test_a_form_that_a_node_never_computed_is_guessed_by_how_fast_it_is() -> None:
    faster = [replace(cost, line=Line(0.0, cost.line.per_work_s / 2)) for cost in (SORT, SHAKE)]
    factor = slowness([SORT, SHAKE], faster)
    assert factor == pytest.approx(0.5)
    guess = scaled(SORT, 0.5)
    assert guess.line == Line(0.0005, pytest.approx(6.1728e-8))  # type: ignore[arg-type]
    assert guess.calls == 0
    assert slowness([SORT], [SHAKE]) is None


def test_twenty_costs_are_a_small_fact() -> None:
    costs = [replace(SORT, form=f"cuda-form-number-{number}") for number in range(20)]
    assert len(encode_fact(told(*costs))) < 1600
