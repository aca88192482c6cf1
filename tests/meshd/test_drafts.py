"""Who drafts for a model of a node, by what `--draft` says and what is there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import llm.demo
from llm.engines.drafts import Draft
from llm.gguf import BadModelFile, read_header
from llm.models.shelf import FILE_NAME, Shelf, Shelved, write_shelf
from meshd.datadir import DataDir
from meshd.drafts import Drafts, words_of_drafts
from tests.llm.cycle_model import write_cycle_model
from tests.llm.tiny_gguf import write_tiny_gguf

TOY = Path(llm.demo.__file__).with_name("meshd-toy.gguf")


@pytest.fixture
def directory(tmp_path: Path) -> DataDir:
    (tmp_path / "data").mkdir()
    return DataDir(tmp_path / "data")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The toy in a folder of its own."""
    (tmp_path / "models").mkdir()
    return Path(shutil.copy(TOY, tmp_path / "models"))


def test_what_is_named_drafts(directory: DataDir, model: Path) -> None:
    file = read_header(model)
    assert Drafts(str(llm.demo.DRAFT_MODEL), directory).choose(file) == Draft(llm.demo.DRAFT_MODEL)
    assert [Drafts(word, directory).choose(file) for word in ("", "none", "ngram", str(model))] == [
        None,
        None,
        "ngram",
        None,
    ]


def test_what_does_not_fit_is_refused_with_the_reason(directory: DataDir, model: Path, tmp_path: Path) -> None:
    other = write_tiny_gguf(tmp_path / "other.gguf")
    with pytest.raises(BadModelFile, match=r"cannot propose tokens to meshd-toy\.gguf: its tokenizer is"):
        Drafts(str(other), directory).choose(read_header(model))
    with pytest.raises(BadModelFile, match="there is no such file"):
        Drafts("nothing", directory).choose(read_header(model))


def test_auto_takes_what_fits_beside_the_model_or_on_the_shelf_else_ngrams(directory: DataDir, model: Path) -> None:
    file, auto = read_header(model), Drafts("auto", directory)
    write_tiny_gguf(model.with_name("stranger.gguf"))
    model.with_name("broken.gguf").write_bytes(b"GGUF nonsense")
    assert auto.choose(file) == "ngram"
    assert "no model beside it could draft" in words_of_drafts(file, directory)
    shelved = model.parent.with_name("an earlier name") / "small.gguf"
    shelved.parent.mkdir()
    shutil.copy(llm.demo.DRAFT_MODEL, shelved)
    write_shelf(directory.root / FILE_NAME, Shelf((Shelved("small", (str(shelved),)),)))
    assert auto.choose(file) == Draft(shelved)
    beside = Path(shutil.copy(llm.demo.DRAFT_MODEL, model.with_name("a-small.gguf")))
    assert auto.choose(file) == Draft(beside)
    assert words_of_drafts(file, directory).startswith("a-small.gguf could draft (draft-simple: 22% of")


def test_auto_takes_heads_that_are_computed_and_says_of_others_that_they_are_not(
    directory: DataDir, tmp_path: Path
) -> None:
    file = read_header(write_cycle_model(tmp_path / "headed.gguf", heads=1))
    assert Drafts("auto", directory).choose(file) == "own-heads"
    metadata = {key.replace("glm4moe.", "glm4."): value for key, value in file.metadata.items()}
    kept = replace(file, architecture="glm4", metadata=metadata)
    assert Drafts("auto", directory).choose(kept) == "ngram"
    assert "does not compute the heads of glm4; no model beside it" in words_of_drafts(kept, directory)


def test_nothing_is_looked_for_beside_a_file_that_is_elsewhere(directory: DataDir, model: Path) -> None:
    elsewhere = replace(read_header(model), paths=(Path("meshd-toy.gguf"),))
    write_shelf(directory.root / FILE_NAME, Shelf((Shelved("small", (str(llm.demo.DRAFT_MODEL),)),)))
    assert "not on this node" in words_of_drafts(elsewhere, directory)
