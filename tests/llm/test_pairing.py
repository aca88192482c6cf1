"""Which of llama-server's ways to draft fits two files, by what both say of themselves."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

import llm.demo
from llm import draft_architectures
from llm.gguf import ModelFile, read_header
from llm.pairing import best, has_own_heads, pair, why_no_heads
from tests.llm.cycle_model import Kind, write_cycle_drafter, write_cycle_model
from tests.llm.gemma_cycle import write_gemma_assistant, write_gemma_cycle
from tests.llm.tiny_gguf import write_tiny_gguf

TOY = Path(llm.demo.__file__).with_name("meshd-toy.gguf")


@pytest.fixture(scope="module")
def model() -> ModelFile:
    return read_header(TOY)


@pytest.fixture(scope="module")
def small() -> ModelFile:
    return read_header(llm.demo.DRAFT_MODEL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drafters")


@pytest.fixture(scope="module")
def cycle(folder: Path) -> ModelFile:
    return read_header(write_cycle_model(folder / "cycle.gguf"))


@pytest.fixture(scope="module")
def headed(folder: Path) -> ModelFile:
    return read_header(write_cycle_model(folder / "headed.gguf", heads=1))


@pytest.fixture(scope="module")
def drafters(folder: Path) -> dict[Kind, ModelFile]:
    return {kind: read_header(write_cycle_drafter(folder / f"{kind}.gguf", kind)) for kind in get_args(Kind)}


def changed(file: ModelFile, **numbers: int) -> ModelFile:
    """`file` with other numbers."""
    return replace(file, metadata=file.metadata | {f"{file.architecture}.{key}": it for key, it in numbers.items()})


def reading(file: ModelFile, *layers: int) -> ModelFile:
    return replace(file, lists={f"{file.architecture}.target_layers": layers})


def called(file: ModelFile, architecture: str) -> ModelFile:
    """`file` as one of another architecture."""
    metadata = {key.replace(f"{file.architecture}.", f"{architecture}."): it for key, it in file.metadata.items()}
    return replace(file, architecture=architecture, metadata=metadata)


def test_a_smaller_model_of_the_same_vocabulary_drafts_as_it_is(model: ModelFile, small: ModelFile) -> None:
    how = pair(model, small)
    assert how.kind == "draft-simple"
    assert how.share == pytest.approx(0.216, abs=0.01)
    assert "22% of the model's bytes" in how.reason


def test_another_vocabulary_or_the_model_itself_does_not(model: ModelFile, tmp_path: Path) -> None:
    other = read_header(write_tiny_gguf(tmp_path / "other.gguf"))
    assert pair(model, other).kind is None
    assert "tokenizer" in pair(model, other).reason
    assert pair(model, model).reason == "it is the model itself"


@pytest.mark.parametrize(
    ("kind", "expected"), [("eagle3", "draft-eagle3"), ("dflash", "draft-dflash"), ("dspark", "draft-dspark")]
)
def test_block_drafters_are_told_by_what_they_say(
    cycle: ModelFile, drafters: dict[Kind, ModelFile], kind: Kind, expected: str
) -> None:
    assert pair(cycle, drafters[kind]).kind == expected


def test_heads_alone_draft_for_a_model_of_their_kind(
    cycle: ModelFile, headed: ModelFile, drafters: dict[Kind, ModelFile]
) -> None:
    assert pair(headed, drafters["head"]).kind == "draft-mtp"
    assert pair(cycle, drafters["head"]).reason == "it is the head of a glm4moe, the model is a llama"


def test_a_whole_model_with_heads_drafts_as_any_does(headed: ModelFile, folder: Path) -> None:
    other = replace(headed, paths=(folder / "copy.gguf",))
    assert pair(headed, other).kind == "draft-simple"


def test_a_block_drafter_of_another_model_is_refused_in_words(
    cycle: ModelFile, drafters: dict[Kind, ModelFile]
) -> None:
    eagle, dflash = drafters["eagle3"], drafters["dflash"]
    assert "expects 4096 values" in pair(cycle, changed(eagle, target_hidden_size=4096)).reason
    assert "layer 99" in pair(cycle, reading(dflash, 1, 99)).reason
    # The layers of heads are not counted: nothing leaves them while the model answers.
    assert "layer 3, which has 2" in pair(changed(cycle, nextn_predict_layers=1), reading(dflash, 1, 3)).reason


def test_what_llama_server_would_stop_at_is_refused_beforehand(
    cycle: ModelFile, headed: ModelFile, drafters: dict[Kind, ModelFile]
) -> None:
    eagle, dflash = drafters["eagle3"], drafters["dflash"]
    assert "hands no layers of glm4moe" in pair(headed, eagle).reason
    assert "reads 3 of its model's, it reads 2" in pair(cycle, reading(eagle, 0, 1)).reason
    assert "what leaves the last layer" in pair(cycle, reading(eagle, 0, 1, 3)).reason
    assert "what leaves the last layer" in pair(cycle, reading(dflash, 0, 3)).reason
    unmasked = {key: it for key, it in dflash.metadata.items() if key != "tokenizer.ggml.mask_token_id"}
    assert "mask_token_id" in pair(cycle, replace(dflash, metadata=unmasked)).reason
    assert "target_layers" in pair(cycle, replace(dflash, lists={})).reason


def test_an_assistant_of_gemma_drafts_for_gemma(cycle: ModelFile, folder: Path) -> None:
    gemma = read_header(write_gemma_cycle(folder / "gemma.gguf"))
    assistant = read_header(write_gemma_assistant(folder / "assistant.gguf"))
    assert pair(gemma, assistant).kind == "draft-mtp"
    assert pair(cycle, assistant).reason == "it drafts for gemma4, not for llama"
    assert "expects 4096 values" in pair(gemma, changed(assistant, embedding_length_out=4096)).reason


def test_what_was_made_for_the_model_comes_before_what_is_small(
    cycle: ModelFile, drafters: dict[Kind, ModelFile], folder: Path
) -> None:
    made = drafters["eagle3"]
    tiny = replace(cycle, paths=(folder / "tiny.gguf",), file_bytes=made.file_bytes // 2)
    found = best(cycle, [tiny, made])
    assert found is not None
    assert (found[0] is made, found[1].kind) == (True, "draft-eagle3")
    too_large = replace(tiny, file_bytes=cycle.file_bytes)
    assert best(cycle, [too_large]) is None


def test_heads_of_its_own(cycle: ModelFile, headed: ModelFile) -> None:
    assert has_own_heads(headed)
    assert not has_own_heads(cycle)
    assert why_no_heads(cycle) == "it has no layers that predict further tokens"


def test_heads_that_llama_cpp_does_not_compute_do_not_draft(headed: ModelFile) -> None:
    kept = called(headed, "glm4")
    assert not has_own_heads(kept)
    assert "does not compute the heads of glm4" in why_no_heads(kept)
    assert "it has 2 heads" in why_no_heads(changed(headed, nextn_predict_layers=2))
    assert has_own_heads(changed(called(headed, "step35"), nextn_predict_layers=2))


def test_the_lists_are_those_of_the_llama_cpp_that_is_used() -> None:
    """Another version computes other heads, and hands out other layers: look the lists up again."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["optional-dependencies"]["llm"] == [f"llama-cpp-python=={draft_architectures.READ_IN}"]
