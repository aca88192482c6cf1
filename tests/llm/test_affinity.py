"""A conversation is recognised by its beginning, and by nothing shorter than is worth it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.affinity import BLOCK_BYTES, MAX_BODY_BYTES, MAX_PREFIXES, WORTH_BYTES, Affinity, prefixes
from tests.llm.views import node_id

LONG = "word " * (WORTH_BYTES // 5 + 1)
A, B = node_id(1), node_id(2)


def body(*texts: str, **more: Any) -> bytes:
    messages = [
        {"role": "user" if number % 2 == 0 else "assistant", "content": text} for number, text in enumerate(texts)
    ]
    return json.dumps({"model": "m", "messages": messages, **more}).encode()


def knows(affinity: Affinity, asked: bytes, model: str = "m") -> bool:
    return affinity.holder(prefixes(model, asked)) is not None


@pytest.fixture
def affinity() -> Affinity:
    found = Affinity()
    found.note(prefixes("m", body(LONG)), A)
    return found


def test_the_next_turn_goes_where_the_last_one_was(affinity: Affinity) -> None:
    assert affinity.holder(prefixes("m", body(LONG, "yes", "and then?"))) == A


def test_other_settings_are_the_same_conversation(affinity: Affinity) -> None:
    assert knows(affinity, body(LONG, "yes", "more", temperature=0.3, stream=True))


@pytest.mark.parametrize(
    ("asked", "model"),
    [
        (body(LONG + "x"), "m"),
        (body("hello", LONG), "m"),
        (body(LONG), "other"),
        (body(LONG, tools=[{"type": "function"}]), "m"),
        (body(LONG, system="be brief"), "m"),
    ],
)
def test_another_beginning_is_another_conversation(affinity: Affinity, asked: bytes, model: str) -> None:
    assert not knows(affinity, asked, model)


def test_instructions_and_tools_are_part_of_the_beginning(affinity: Affinity) -> None:
    asked = body(LONG, system=[{"type": "text", "text": "be brief"}], tools=[{"type": "function"}])
    affinity.note(prefixes("m", asked), B)
    assert affinity.holder(prefixes("m", asked)) == B


def test_the_longest_known_beginning_counts(affinity: Affinity) -> None:
    affinity.note(prefixes("m", body(LONG, "yes", "more")), B)
    assert affinity.holder(prefixes("m", body(LONG, "yes", "more", "well", "so"))) == B
    assert affinity.holder(prefixes("m", body(LONG, "no", "less"))) == B  # it read that beginning last


def test_short_beginnings_bind_nobody() -> None:
    assert prefixes("m", body("You are a helpful assistant.", "Hi", "Hello")) == ()


@pytest.mark.parametrize("field", ["prompt", "input"])
def test_plain_texts_are_known_by_whole_blocks(field: str) -> None:
    affinity = Affinity()
    affinity.note(prefixes("m", json.dumps({field: LONG * 3}).encode()), A)
    assert knows(affinity, json.dumps({field: LONG * 3 + "and more of it"}).encode())
    assert not knows(affinity, json.dumps({field: "other " + LONG * 3}).encode())


@pytest.mark.parametrize("cut", [-1, 0, 1])
def test_a_last_block_counts_once_it_is_whole(cut: int) -> None:
    blocks = WORTH_BYTES // BLOCK_BYTES + 3
    text = "x" * (blocks * BLOCK_BYTES - len('""') + cut)  # the quotes are part of what is read
    whole = blocks - 1 if cut < 0 else blocks
    assert len(prefixes("m", json.dumps({"prompt": text}).encode())) == whole - WORTH_BYTES // BLOCK_BYTES + 1


@given(st.binary(max_size=200) | st.sampled_from([b"[" * 100_000, b'{"messages": 5}', b'{"messages": [1, null, "x"]}']))
def test_what_is_no_prompt_has_no_beginnings_and_does_no_harm(sent: bytes) -> None:
    assert all(len(prefix) == 32 for prefix in prefixes("m", sent))


def test_very_large_bodies_are_not_hashed() -> None:
    assert prefixes("m", body("x" * MAX_BODY_BYTES)) == ()


def test_only_so_many_are_remembered(affinity: Affinity) -> None:
    for number in range(MAX_PREFIXES):
        affinity.note((number.to_bytes(32, "big"),), B)
    assert not knows(affinity, body(LONG))
