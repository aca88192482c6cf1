"""What a model is for is read from its file, and a projector beside it is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf import PoolingType

from llm.gguf import read_header
from llm.purpose import Purpose, find_projector, purpose_arguments, purpose_of
from tests.llm.tiny_gguf import write_tiny_gguf


@pytest.mark.parametrize(
    ("pooling", "purpose", "argument"),
    [
        (None, Purpose.GENERATE, None),
        (PoolingType.NONE, Purpose.GENERATE, None),
        (PoolingType.MEAN, Purpose.EMBED, "--embedding"),
        (PoolingType.CLS, Purpose.EMBED, "--embedding"),
        (PoolingType.LAST, Purpose.EMBED, "--embedding"),
        (PoolingType.RANK, Purpose.RERANK, "--reranking"),
    ],
)
def test_the_pooling_type_says_it(
    tmp_path: Path, pooling: PoolingType | None, purpose: Purpose, argument: str | None
) -> None:
    file = read_header(write_tiny_gguf(tmp_path / "m.gguf", pooling=pooling))
    assert purpose_of(file) is purpose
    assert purpose_arguments(file, None)[:1] == ((argument,) if argument else ())


def test_the_one_projector_beside_a_model_goes_with_it(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "m.gguf")
    assert find_projector(model) is None
    projector = tmp_path / "mmproj-m-f16.gguf"
    projector.touch()
    assert find_projector(model) == projector
    assert purpose_arguments(read_header(model), projector) == ("--mmproj", str(projector))
    (tmp_path / "mmproj-other.gguf").touch()
    assert find_projector(model) is None
