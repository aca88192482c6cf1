"""Tokens are read from what engines say at the end of an answer, and from nothing else."""

from __future__ import annotations

import json

import pytest

from meshd.metrics.answer_usage import MAX_PARSED_BYTES, Usage, UsageReader


def event(**said: object) -> bytes:
    return b"data: " + json.dumps(said).encode() + b"\n\n"


def read(*chunks: bytes, is_stream: bool) -> Usage:
    reader = UsageReader(is_stream=is_stream)
    for chunk in chunks:
        reader.feed(chunk)
    return reader.end()


def test_a_stream_says_its_usage_in_its_last_event() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    assert read(event(choices=[]), event(usage=usage), b"data: [DONE]\n\n", is_stream=True) == Usage(7, 3)


def test_llama_servers_timings_count_and_tell_what_was_drafted() -> None:
    timings = {"prompt_n": 1, "predicted_n": 9, "draft_n": 8, "draft_n_accepted": 5}
    assert read(event(timings=timings), is_stream=True) == Usage(0, 9, 8, 5)


def test_a_whole_answer_is_read_in_pieces_too() -> None:
    body = json.dumps({"usage": {"input_tokens": 4, "output_tokens": 2}}).encode()
    assert read(body[:9], body[9:], is_stream=False) == Usage(4, 2)


def test_the_responses_api_says_it_one_level_down() -> None:
    usage = {"input_tokens": 4, "output_tokens": 2}
    assert read(event(response={"usage": usage}), is_stream=True) == Usage(4, 2)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"usage": 5}', b'{"usage": {"completion_tokens": "9"}}', b'{"usage": {"prompt_tokens": -1}}'],
)
def test_nonsense_counts_nothing(body: bytes) -> None:
    assert read(body, is_stream=False) == Usage()
    assert read(b"data: " + body + b"\n\n", is_stream=True) == Usage()


def test_long_answers_are_not_held_for_it() -> None:
    reader = UsageReader(is_stream=False)
    reader.feed(b"{")
    for _ in range(20):
        reader.feed(bytes(MAX_PARSED_BYTES // 10))
    assert len(reader._held) <= MAX_PARSED_BYTES
    assert reader.end() == Usage()
