"""What the parts of a split need, against what the whole model does."""

from __future__ import annotations

from pathlib import Path

import pytest

import llm.demo
from llm.engines.llama_server import Draft, LlamaServerOptions
from llm.gguf import read_header
from llm.memory.footprint import placement
from llm.split.layout import Needs, own_layers
from meshd.split import needs_of

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
    assert len(needs(draft=DRAFT)(())) == 1


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.67, 0.33), (0.01, 0.99), (0.99, 0.01), (0.4, 0.3, 0.3)])
def test_every_layer_is_somebodys(shares: tuple[float, ...]) -> None:
    kept = own_layers(shares, LAYERS)
    place = placement(LAYERS, shares[1:], kept)

    assert 1 <= kept <= LAYERS
    assert sum(device == place.host for device in place.layers) == kept
    assert place.output != place.host
