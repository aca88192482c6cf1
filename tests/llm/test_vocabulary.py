"""Which draft speaks a model's language; the engine itself agrees, and proposes tokens."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

import llm.demo
from llm.gguf import read_header
from llm.vocabulary import MOST_MORE_TOKENS, why_no_draft
from tests.llm.engine_loads import serving
from tests.llm.tiny_gguf import write_tiny_gguf

TOY = Path(llm.demo.__file__).with_name("meshd-toy.gguf")


def model(folder: Path, more_tokens: int) -> Path:
    return write_tiny_gguf(folder / f"plus-{more_tokens}.gguf", more_tokens=more_tokens)


@pytest.mark.parametrize(("of_model", "of_draft"), [(0, 0), (0, 7), (MOST_MORE_TOKENS, 0)])
def test_a_vocabulary_that_is_only_padded_differently_fits(tmp_path: Path, of_model: int, of_draft: int) -> None:
    files = [read_header(model(tmp_path, count)) for count in (of_model, of_draft)]
    assert files[0].tokens.items - files[1].tokens.items == of_model - of_draft
    assert why_no_draft(files[0], files[1]) == ""


def test_another_size_is_told(tmp_path: Path) -> None:
    large, small = (read_header(model(tmp_path, count)) for count in (MOST_MORE_TOKENS + 1, 0))
    assert why_no_draft(large, small) == f"it has {small.tokens.items} tokens, the model {large.tokens.items}: " + (
        "at most 128 more or less would do"
    )


def test_other_tokens_are_told(tmp_path: Path) -> None:
    path = model(tmp_path, 0)
    file = read_header(path)
    changed = path.read_bytes().replace(b"<0x07>", b"<0x7X>", 1)
    assert changed != path.read_bytes()
    other = tmp_path / "other.gguf"
    other.write_bytes(changed)
    assert why_no_draft(file, read_header(other)) == "its tokens are not the model's"
    assert "its tokenizer is" in why_no_draft(read_header(TOY), file)


@pytest.mark.live
async def test_the_engine_takes_a_draft_that_is_padded_differently(tmp_path: Path) -> None:
    draft = ("--spec-type", "draft-simple", "--spec-draft-model", str(model(tmp_path, 0)), "--spec-draft-n-max", "4")
    told = ("--ctx-size", "512", "--parallel", "1", "--threads", "1", "--fit", "off", *draft)
    async with serving(model(tmp_path, MOST_MORE_TOKENS), told, tmp_path) as url:
        body = {"prompt": "Once", "n_predict": 16, "temperature": 0}
        async with aiohttp.ClientSession() as session, session.post(f"{url}/completion", json=body) as response:
            timings = (await response.json())["timings"]
    assert timings["draft_n"] > 0
    assert "not compatible" not in (tmp_path / "serving.log").read_text()
