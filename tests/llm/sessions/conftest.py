"""A recall model, and sessions on it in this process (an agent has them in a child)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from llm.sessions.session import Said
from llm.sessions.shelf import Shelf
from llm.sessions.tiers import Limits
from tests.llm.sessions.recall_model import write_recall_model

pytest.importorskip("llama_cpp")  # the extra `llm`

from llm.sessions.context import Context, ContextSettings, be_quiet
from llm.sessions.sessions import Sessions


@pytest.fixture(scope="session")
def recall_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Q8_0."""
    return write_recall_model(tmp_path_factory.mktemp("recall") / "recall.gguf", quantised=True)


@dataclass
class Heard:
    """A listener that keeps what it is told."""

    said: list[Said] = field(default_factory=list)
    has_room: bool = True

    def tell(self, said: Said) -> None:
        self.said.append(said)

    @property
    def text(self) -> str:
        return "".join(one.text for one in self.said)

    @property
    def finish(self) -> str:
        return self.said[-1].finish


DEFAULT_LIMITS = Limits()
Make = Callable[..., Sessions]


@pytest.fixture
def make(recall_model: Path, tmp_path: Path) -> Iterator[Make]:
    """Makes sessions on the recall model; another call with the same folder is another process's start."""
    be_quiet()
    with ExitStack() as stack:
        times = iter(range(1 << 30))

        def sessions(
            folder: str = "shelf", *, model: Path = recall_model, limits: Limits = DEFAULT_LIMITS, **settings: object
        ) -> Sessions:
            chosen = ContextSettings(model, threads=1, **{"cells": 2048, "sequences": 8, **settings})  # type: ignore[arg-type]
            context = Context(chosen)
            stack.callback(context.close)
            kind = f"{chosen.kv_type} {chosen.flash_attention}"
            return Sessions(context, Shelf(tmp_path / folder), lambda: float(next(times)), limits, kind=kind)

        yield sessions
