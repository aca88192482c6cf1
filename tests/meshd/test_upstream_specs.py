"""`--upstream` says which server, how it is named here, and what else there is to know."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm.engines.upstream import UpstreamOptions
from meshd.model_specs import BadModelSpec
from meshd.upstream_specs import parse_upstream, parse_upstreams


def test_a_name_and_a_url_are_enough() -> None:
    assert parse_upstream("ollama=http://127.0.0.1:11434") == UpstreamOptions("ollama", "http://127.0.0.1:11434")


@pytest.mark.parametrize("url", ["http://h:1/v1", "http://h:1/v1/", "http://h:1/"])
def test_the_url_may_end_as_clients_write_it(url: str) -> None:
    assert parse_upstream(f"x={url}").base == "http://h:1"


def test_a_slash_after_the_name_makes_it_a_prefix() -> None:
    assert parse_upstream("vllm/=https://h:8000").prefix == "vllm/"


def test_everything_else(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret\n")
    spec = f"tts=http://h:1 key-file={key} slots=2 models=a,b memory=3.5"
    spec += " start='systemctl start tts' stop='systemctl stop tts'"
    got = parse_upstream(spec)
    assert (got.api_key, got.slots, got.models) == ("secret", 2, ("a", "b"))
    assert got.memory_bytes == 3.5 * (1 << 30)
    assert (got.start, got.stop) == (("systemctl", "start", "tts"), ("systemctl", "stop", "tts"))


@pytest.mark.parametrize(
    "text",
    [
        *("", "http://h:1", "x=h:1", "x=ftp://h", "x=http://", "a b=http://h", "x=http://h:99999", "x=http://u:p@h"),
        *(
            "x=http://h?k=1",
            "x=http://h slots=0",
            "x=http://h slots=many",
            "x=http://h memory=all",
            "x=http://h memory=-1",
            "x=http://h speed=9",
            "x=http://h 'open",
        ),
        "x=http://h key-file=/nowhere/at/all",
    ],
)
def test_what_cannot_be_used_is_refused_in_words(text: str) -> None:
    with pytest.raises(BadModelSpec, match="--upstream"):
        parse_upstream(text)


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(BadModelSpec, match="two upstreams"):
        parse_upstreams(("x=http://h:1", "x=http://h:2"))
