"""Which of llama-server's ways to draft fits two files, by what both say of themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import llm.demo
from llm.gguf import ModelFile, Numbers, Tensor, read_header
from llm.pairing import best, has_own_heads, pair
from tests.llm.tiny_gguf import write_tiny_gguf

TOY = Path(llm.demo.__file__).with_name("meshd-toy.gguf")


@pytest.fixture(scope="module")
def model() -> ModelFile:
    return read_header(TOY)


@pytest.fixture(scope="module")
def small() -> ModelFile:
    return read_header(llm.demo.DRAFT_MODEL)


def block(file: ModelFile, architecture: str, tensors: tuple[str, ...] = (), **numbers: int) -> ModelFile:
    """`file` as a block drafter: of another kind, with other tensors and numbers."""
    metadata = {f"{architecture}.{key}": value for key, value in numbers.items()}
    shape = file.tensors[0]
    found: tuple[Tensor, ...] = tuple(replace(shape, name=name) for name in tensors)
    lists: dict[str, Numbers] = {f"{architecture}.target_layers": (1, 2)}
    return replace(file, architecture=architecture, metadata=file.metadata | metadata, lists=lists, tensors=found)


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
    ("architecture", "tensors", "kind"),
    [
        ("dflash", ("fc.weight",), "draft-dflash"),
        ("dflash", ("fc.weight", "markov_w1.weight"), "draft-dspark"),
        ("eagle3", ("fc.weight",), "draft-eagle3"),
        ("llama", ("blk.3.nextn.eh_proj.weight",), "draft-mtp"),
        ("llama", ("blk.0.attn_q.weight", "blk.3.nextn.eh_proj.weight"), "draft-simple"),
    ],
)
def test_block_drafters_are_told_by_what_they_say(
    model: ModelFile, small: ModelFile, architecture: str, tensors: tuple[str, ...], kind: str
) -> None:
    width = model.metadata[f"{model.architecture}.embedding_length"]
    assert isinstance(width, int)
    drafter = block(small, architecture, tensors, block_count=4, embedding_length=width, target_hidden_size=width)
    assert pair(model, drafter).kind == kind


def test_a_block_drafter_of_another_model_is_refused_in_words(model: ModelFile, small: ModelFile) -> None:
    strange = block(small, "eagle3", target_hidden_size=4096)
    assert "expects 4096 values" in pair(model, strange).reason
    layers = replace(block(small, "dflash"), lists={"dflash.target_layers": (1, 99)})
    assert "layer 99" in pair(model, layers).reason


def test_what_was_made_for_the_model_comes_before_what_is_small(model: ModelFile, small: ModelFile) -> None:
    width = model.metadata[f"{model.architecture}.embedding_length"]
    assert isinstance(width, int)
    made = replace(block(small, "dflash", embedding_length=width), file_bytes=2 * small.file_bytes)
    found = best(model, [small, made])
    assert found is not None
    assert (found[0] is made, found[1].kind) == (True, "draft-dflash")
    too_large = replace(small, file_bytes=model.file_bytes)
    assert best(model, [too_large]) is None


def test_heads_of_its_own(model: ModelFile) -> None:
    last = model.metadata[f"{model.architecture}.block_count"]
    assert isinstance(last, int)
    heads = replace(model.tensors[0], name=f"blk.{last - 1}.nextn.eh_proj.weight")
    assert not has_own_heads(model)
    assert has_own_heads(replace(model, tensors=(*model.tensors, heads)))
