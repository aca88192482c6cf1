"""`--model SPEC`: what it may name, and what people are told otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshd.model_specs import BadModelSpec, BroughtSpec, EchoSpec, FileSpec, parse_spec, parse_specs


def test_a_file_is_known_by_its_name_without_ending(tmp_path: Path) -> None:
    path = tmp_path / "qwen3-8b-q4.gguf"
    path.touch()

    assert parse_spec(str(path)) == FileSpec("qwen3-8b-q4", path)


def test_the_first_part_of_a_split_model_lends_its_stem(tmp_path: Path) -> None:
    path = tmp_path / "big-00001-of-00003.gguf"
    path.touch()

    assert parse_spec(str(path)).name == "big"


def test_the_echo_engine_may_have_a_pace() -> None:
    assert parse_spec("echo:parrot") == EchoSpec("parrot", 0)
    assert parse_spec("echo:parrot@12.5") == EchoSpec("parrot", 12.5)


def test_a_model_of_the_hub_is_brought_first() -> None:
    assert parse_specs(("hf:o/r:Q4_0",), ("hf:o/s",)) == (
        BroughtSpec("hf:o/r:Q4_0"),
        BroughtSpec("hf:o/s", is_lazy=True),
    )


def test_a_draft_that_is_not_here_is_brought_with_the_models(tmp_path: Path) -> None:
    (tmp_path / "d.gguf").touch()
    model, draft = BroughtSpec("hf:o/r"), BroughtSpec("hf:o/d", is_lazy=True, is_draft=True)
    assert parse_specs(("hf:o/r",), draft="hf:o/d") == (draft, model)
    for here in ("", "none", "ngram", str(tmp_path / "d.gguf"), "hf:o/r"):
        assert parse_specs(("hf:o/r",), draft=here) == (model,)


def test_a_name_of_the_catalogue_is_brought_unless_a_file_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_spec("qwen2.5-7b") == BroughtSpec("hf:Qwen/Qwen2.5-7B-Instruct-GGUF:Q4_K_M")
    Path("qwen2.5-7b").touch()
    assert parse_spec("qwen2.5-7b") == FileSpec("qwen2.5-7b", tmp_path / "qwen2.5-7b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere.gguf", "there is no such file; expected the path of a GGUF file, or hf:OWNER/REPOSITORY$"),
        ("qwen9", "or one of: qwen2.5-0.5b, "),
        ("hf:owner", "expected hf:OWNER/REPOSITORY"),
        ("hf:owner/repo:", "expected hf:OWNER/REPOSITORY"),
        ("echo:", "expected echo:NAME"),
        ("echo:a@fast", "expected echo:NAME"),
    ],
)
def test_what_cannot_be_served_is_explained(text: str, message: str) -> None:
    with pytest.raises(BadModelSpec, match=message):
        parse_spec(text)


def test_two_models_of_one_name_are_refused() -> None:
    with pytest.raises(BadModelSpec, match="both be called 'a'"):
        parse_specs(("echo:a", "echo:a@5"))
