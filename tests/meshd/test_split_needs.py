"""What the parts of a split need, against what the whole model does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import llm.demo
from llm.engines.drafts import Draft
from llm.engines.llama_arguments import LlamaServerOptions
from llm.gguf import read_header
from llm.memory.footprint import footprint, placement
from llm.memory.host_cache import host_cache
from llm.memory.need import projector_bytes
from llm.memory.settings import EngineSettings
from llm.split.layout import Needs, own_layers
from meshd.model_needs import makeup_of, makeups_of, needs_of
from tests.llm.tiny_projector import write_tiny_projector

TOY = Path(llm.demo.__file__).with_name("meshd-toy.gguf")
DRAFT = Draft(TOY.with_name("meshd-toy-draft.gguf"))
LAYERS = 6


def needs(*, in_ram: bool = True, draft: Draft | None = None) -> Needs:
    options = LlamaServerOptions(TOY, "toy", TOY, context_tokens=1024, slots=1, draft=draft)
    return needs_of(read_header(TOY), options, in_ram=in_ram)


@pytest.mark.parametrize("in_ram", [True, False])
def test_a_larger_share_needs_more(in_ram: bool) -> None:
    least, most = needs(in_ram=in_ram)((0.3, 0.7))[0], needs(in_ram=in_ram)((0.7, 0.3))[0]

    assert 0 < least < most


def test_parts_together_need_at_least_the_model(tmp_path: Path) -> None:
    assert sum(needs()((0.5, 0.5))) > TOY.stat().st_size
    assert len(needs()((0.4, 0.3, 0.3))) == 3


def test_the_draft_is_the_leaders_to_hold() -> None:
    plain, drafted = needs()((0.5, 0.5)), needs(draft=DRAFT)((0.5, 0.5))

    assert drafted[0] - plain[0] >= DRAFT.model.stat().st_size
    assert drafted[1] == plain[1]
    assert len(needs(draft=DRAFT)(())) == 1


def test_a_draft_is_predicted_as_any_model_is() -> None:
    settings = EngineSettings(context_tokens=1024, slots=1, drafts=DRAFT.tokens)
    predicted = footprint(read_header(DRAFT.model), settings)[0].total

    more = needs(draft=DRAFT)(())[0] - needs()(())[0]

    # What the model itself needs grows a little as well: it judges several tokens at once.
    assert predicted <= more < 1.3 * predicted
    assert predicted > 1.1 * DRAFT.model.stat().st_size


def test_a_draft_takes_nothing_of_a_gpu() -> None:
    assert needs(in_ram=False, draft=DRAFT)(())[0] < needs(in_ram=False)(())[0] + DRAFT.model.stat().st_size


def test_what_a_host_keeps_in_ram_is_counted_where_models_are_in_ram() -> None:
    settings = EngineSettings(context_tokens=1024, slots=1)
    kept = host_cache(read_header(TOY), settings, in_ram=True)

    assert kept.prompts_mib > 0
    (predicted,) = footprint(read_header(TOY), settings)
    assert needs()(())[0] >= predicted.total + kept.total_bytes(1)
    assert needs()((0.5, 0.5))[0] < needs()(())[0] - kept.total_bytes(1)


def test_a_projector_is_counted(tmp_path: Path) -> None:
    projector = write_tiny_projector(tmp_path / "mmproj.gguf")
    plain = LlamaServerOptions(TOY, "toy", TOY, context_tokens=1024, slots=1)
    seeing = replace(plain, more_arguments=("--mmproj", str(projector)))
    file = read_header(TOY)

    for in_ram in (True, False):
        more = needs_of(file, seeing, in_ram=in_ram)(())[0] - needs_of(file, plain, in_ram=in_ram)(())[0]
        assert more >= projector_bytes(read_header(projector)) > 0


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.67, 0.33), (0.01, 0.99), (0.99, 0.01), (0.4, 0.3, 0.3)])
def test_every_layer_is_somebodys(shares: tuple[float, ...]) -> None:
    kept = own_layers(shares, LAYERS)
    place = placement(LAYERS, shares[1:], kept)

    assert 1 <= kept <= LAYERS
    assert sum(device == place.host for device in place.layers) == kept
    assert place.output != place.host


@pytest.mark.parametrize("shares", [(), (0.5, 0.5), (0.3, 0.3, 0.4)])
@pytest.mark.parametrize("in_ram", [True, False])
def test_weights_and_caches_are_told_apart_and_are_less_than_what_is_reserved(
    in_ram: bool, shares: tuple[float, ...]
) -> None:
    options = LlamaServerOptions(TOY, "toy", TOY, context_tokens=1024, slots=1)
    longer = replace(options, context_tokens=4096)
    file = read_header(TOY)

    makeups, wider = (makeups_of(file, one, shares, in_ram=in_ram) for one in (options, longer))
    needed = needs_of(file, options, in_ram=in_ram)(shares)

    assert len(makeups) == len(wider) == len(needed) == max(1, len(shares))
    assert 0 < sum(makeup.weights for makeup in makeups) < 2 * TOY.stat().st_size  # an embedding may be there twice
    for makeup, more, need in zip(makeups, wider, needed, strict=True):
        assert (more.weights, makeup.forms) == (makeup.weights, 0)
        assert more.kv > 3 * makeup.kv
        assert makeup.weights + makeup.kv < need


def test_a_draft_and_a_projector_are_weights_too(tmp_path: Path) -> None:
    plain = LlamaServerOptions(TOY, "toy", TOY, context_tokens=1024, slots=1)
    projector = tmp_path / "mmproj.gguf"
    write_tiny_projector(projector)
    file, seeing = read_header(TOY), replace(plain, more_arguments=("--mmproj", str(projector)))

    def weights(options: LlamaServerOptions) -> int:
        return makeup_of(file, options, in_ram=True).weights

    assert weights(replace(plain, draft=DRAFT)) > weights(plain) + 0.9 * DRAFT.model.stat().st_size
    assert weights(seeing) == weights(plain) + projector_bytes(read_header(projector))
