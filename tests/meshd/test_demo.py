"""What the demo's agents have in common with whoever starts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshd.demo import DemoFailed, demo_mesh, engine_named_in


def test_the_engine_that_an_image_names_is_the_demos_too_and_nothing_else_is() -> None:
    around = {"MESHD_ENGINE": "/opt/meshd/engine/bin/llama-server", "MESHD_DATA_DIR": "/data", "MESHD_JOIN": "meshd1:x"}

    assert engine_named_in(around) == {"MESHD_ENGINE": "/opt/meshd/engine/bin/llama-server"}
    assert engine_named_in({}) == {}


async def test_without_an_engine_it_says_so_at_once_and_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHD_ENGINE", "/nowhere/llama-server")
    said: list[str] = []

    with pytest.raises(DemoFailed, match="/nowhere/llama-server is not an executable"):
        async with demo_mesh(Path("toy.gguf"), 3, said.append):
            pass

    assert said == []
