"""What status, plans and metrics say of drafters on other hosts."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import Any, Literal

import msgspec
import pytest
from rich.console import Console

from gossip.view import View
from llm.draft.fact import DRAFT_FACT, DraftOffer, encode_drafters, find_drafters
from llm.draft.tally import Account, Tally
from llm.engines.interface import Drafting
from meshd.cli.status import _page
from meshd.draft_status import draft_row, drafter_rows, plan_rows
from meshd.metrics.telemetry import make_telemetry
from meshd.status import build_status
from tests.meshd.test_status import HOST, LAPTOP, ME, host, node, situation

VOCABULARY = "f1" * 32
TALLY = Tally(
    model="big",
    drafter="small",
    state="on",
    speedup=1.62,
    best=8,
    chance=0.9,
    plain_s=0.0419,
    verify_s=0.0673,
    draft_s=0.020,
    round_trip_s=0.030,
    break_even_s=0.104,
    blocks=10,
    drafted=80,
    accepted=60,
    missed=2,
)


def view(rtt_ms: float = 30.0, token_s: float = 0.002) -> View:
    facts = {DRAFT_FACT: encode_drafters([DraftOffer("small", VOCABULARY, token_s)])}
    return View(1, (node(ME, "me"), replace(node(HOST, "host", facts=facts), rtt_ms=rtt_ms), node(LAPTOP, "other")))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("on", "blocks of 8 should be 1.62 times as fast as plain decoding: 30.0 ms there and back"),
        ("off", "it is tried again"),
        ("never", "a token takes 41.9 ms, the way there and back 30.0 ms"),
    ],
)
def test_a_state_is_explained_by_its_numbers(state: Literal["on", "off", "never"], words: str) -> None:
    row = draft_row(Account("host", msgspec.structs.replace(TALLY, state=state)))
    assert (row["state"], row["break_even_ms"], row["accepted"]) == (state, 104.0, 60)
    assert words in row["reason"]


def test_status_lists_drafters_and_how_it_goes() -> None:
    now = replace(situation(host()), view=view(), drafts=(Account("host", TALLY),))
    drafting = build_status(now)["drafting"]
    assert drafting["drafters"] == [{"node": "host", "model": "small", "vocabulary": VOCABULARY, "token_ms": 2.0}]
    assert [one["model"] for one in drafting["models"]] == ["big"]
    assert drafting["here"] == []
    assert drafter_rows(View(1, (node(ME, "me"),))) == []


LOCAL = Drafting("n-grams (ngram-simple)", "off", False, 0.93, 40, 21, "off: 0.93 times as fast with them")


def test_what_this_nodes_engines_draft_is_told_too() -> None:
    now = replace(situation(host()), local_drafts={"toy": LOCAL})
    (row,) = build_status(now)["drafting"]["here"]
    assert (row["model"], row["state"], row["is_drafting"]) == ("toy", "off", False)
    assert (row["drafted"], row["accepted"], row["speedup"]) == (40, 21, 0.93)
    page = Console(width=200, file=StringIO(), record=True)
    page.print(_page(build_status(now)))
    words = "n-grams (ngram-simple) drafts for toy: off: 0.93 times as fast with them; 21 of 40 tokens accepted"
    assert words in page.export_text()
    labels = {"model": "toy", "drafter": LOCAL.drafter, "node": "me"}
    registry = make_telemetry(lambda: now, dict).registry
    assert registry.get_sample_value("meshd_draft_state", labels | {"state": "off"}) == 1
    assert registry.get_sample_value("meshd_draft_tokens_total", labels | {"kind": "accepted"}) == 21


def planned(*accounts: Account, plain_s: float = 0.040, **of_view: Any) -> str:
    (row,) = plan_rows(accounts, find_drafters(view(**of_view), VOCABULARY), "big", plain_s)
    return row


def test_a_plan_says_never_where_even_perfect_drafts_would_not_pay() -> None:
    assert "at most 4.19 times as fast" in planned()
    assert "never: even drafts that are always right would be 0.11 times" in planned(plain_s=0.002, rtt_ms=150.0)
    assert "is measured when its sessions ask" in planned(plain_s=0.0)
    assert plan_rows((), find_drafters(view(), "00" * 32), "big", 0.040) == []


def test_a_plan_prefers_what_was_measured() -> None:
    assert "on: blocks of 8 should be 1.62 times" in planned(Account("host", TALLY))
    assert "at most" in planned(Account("another", TALLY))


def test_metrics_have_the_state_and_the_numbers() -> None:
    now = replace(situation(host()), drafts=(Account("host", TALLY),))
    registry = make_telemetry(lambda: now, dict).registry
    labels = {"model": "big", "drafter": "small", "node": "host"}
    assert registry.get_sample_value("meshd_draft_state", labels | {"state": "on"}) == 1
    assert registry.get_sample_value("meshd_draft_speedup", labels) == 1.62
    assert registry.get_sample_value("meshd_draft_seconds", labels | {"part": "break_even"}) == 0.104
    assert registry.get_sample_value("meshd_draft_tokens_total", labels | {"kind": "accepted"}) == 60
    assert registry.get_sample_value("meshd_draft_blocks_total", labels | {"outcome": "missed"}) == 2
