"""Which files `hf:owner/repo[:quant]` means, and what people are told when that is not one model."""

from __future__ import annotations

import pytest

from llm.models.catalogue import SPECS
from llm.models.selection import HubFile, HubSpec, NotChosen, choose, choose_projector, parse_hub_spec


def repository(*paths: str) -> list[HubFile]:
    return [HubFile(path, 1_500_000_000, f"{number:064x}") for number, path in enumerate(paths)]


def chosen(quant: str, *paths: str) -> list[str]:
    return [file.path for file in choose(HubSpec("o/r", quant), repository(*paths))]


SEVERAL = ("README.md", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "m-IQ2_XXS.gguf", "mmproj-F16.gguf", "m-UD-Q4_K_XL.gguf")


def test_specs_are_read() -> None:
    assert parse_hub_spec("hf:owner/repo-GGUF:Q4_K_M") == HubSpec("owner/repo-GGUF", "Q4_K_M")
    assert parse_hub_spec("hf:o/r") == HubSpec("o/r", "")
    assert parse_hub_spec("hf:o/r:Q8_0").name == "hf:o/r:Q8_0"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text", ["hf:", "hf:repo", "hf:a/b/c", "hf:../etc", "hf:a/b:", "hf:a/b:x/y", "a/b", "hf:a/b:c:d"]
)
def test_what_is_no_spec_is_none(text: str) -> None:
    assert parse_hub_spec(text) is None


@pytest.mark.parametrize("name", list(SPECS))
def test_every_name_of_the_catalogue_stands_for_a_spec(name: str) -> None:
    spec = parse_hub_spec(name)
    assert spec is not None and spec.name == SPECS[name]
    assert parse_hub_spec(name.upper()) == spec


@pytest.mark.parametrize("quant", ["Q4_K_M", "q4_k_m", "m-Q4_K_M"])
def test_a_quant_is_found_however_it_is_spelled(quant: str) -> None:
    assert chosen(quant, *SEVERAL) == ["m-Q4_K_M.gguf"]


def test_a_quant_means_itself_and_not_what_ends_alike() -> None:
    assert chosen("UD-Q4_K_XL", *SEVERAL) == ["m-UD-Q4_K_XL.gguf"]
    assert chosen("IQ2_XXS", *SEVERAL) == ["m-IQ2_XXS.gguf"]


def test_a_repository_of_one_model_needs_no_quant() -> None:
    assert chosen("", "model.gguf", "mmproj-F16.gguf", "imatrix.gguf", "config.json") == ["model.gguf"]


def projector(model: str, *others: str) -> str | None:
    files = repository(model, *others)
    found = choose_projector(files[:1], files)
    return found.path if found is not None else None


def test_the_projector_that_computes_as_it_is_stored_comes_along() -> None:
    assert projector(*SEVERAL[1:]) == "mmproj-F16.gguf"
    kinds = ("mmproj-m-f32.gguf", "mmproj-m-bf16.gguf", "mmproj-m-f16.gguf", "mmproj-m-Q8_0.gguf")
    assert projector("m-Q4_0.gguf", *kinds) == "mmproj-m-f16.gguf"
    assert projector("m-Q4_0.gguf", *kinds[:2]) == "mmproj-m-bf16.gguf"
    assert projector("m-Q4_0.gguf", "README.md") is None


def test_the_projector_lies_beside_its_model_or_at_the_top() -> None:
    assert projector("Q4/m.gguf", "mmproj-F16.gguf", "other/mmproj-F16.gguf") == "mmproj-F16.gguf"
    assert projector("Q4/m.gguf", "mmproj-F16.gguf", "Q4/mmproj-F32.gguf") == "Q4/mmproj-F32.gguf"
    assert projector("m.gguf", "other/mmproj-F16.gguf") is None


def test_all_parts_of_a_split_model_are_taken_in_order() -> None:
    parts = [f"Q4_K_M/m-Q4_K_M-{number:05d}-of-00003.gguf" for number in (3, 1, 2)]
    assert chosen("Q4_K_M", *parts, "m-Q8_0.gguf") == sorted(parts)


def test_a_missing_part_is_named() -> None:
    with pytest.raises(NotChosen, match=r"lacks d/m-Q4_0-00002-of-00003.gguf, part 2 of 3"):
        chosen("Q4_0", "d/m-Q4_0-00001-of-00003.gguf", "d/m-Q4_0-00003-of-00003.gguf")


@pytest.mark.parametrize("quant", ["", "Q5_K_M"])
def test_where_it_is_not_one_model_all_are_listed(quant: str) -> None:
    listed = r"IQ2_XXS \(1.50 GB\), Q4_K_M \(1.50 GB\), Q8_0 \(1.50 GB\), UD-Q4_K_XL"
    with pytest.raises(NotChosen, match=listed):
        chosen(quant, *SEVERAL)


def test_two_models_of_one_quant_are_not_guessed_between() -> None:
    with pytest.raises(NotChosen, match="2 models"):
        chosen("Q8_0", "a-Q8_0.gguf", "b-Q8_0.gguf")
    assert chosen("b-Q8_0", "a-Q8_0.gguf", "b-Q8_0.gguf") == ["b-Q8_0.gguf"]


def test_a_repository_without_models_is_said_to_have_none() -> None:
    with pytest.raises(NotChosen, match="no GGUF file"):
        chosen("", "model.safetensors", "mmproj-F16.gguf")
