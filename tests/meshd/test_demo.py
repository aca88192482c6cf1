"""What the demo's agents have in common with whoever starts it."""

from __future__ import annotations

from meshd.demo import engine_named_in


def test_the_engine_that_an_image_names_is_the_demos_too_and_nothing_else_is() -> None:
    around = {"MESHD_ENGINE": "/opt/meshd/engine/bin/llama-server", "MESHD_DATA_DIR": "/data", "MESHD_JOIN": "meshd1:x"}

    assert engine_named_in(around) == {"MESHD_ENGINE": "/opt/meshd/engine/bin/llama-server"}
    assert engine_named_in({}) == {}
