"""Hypothesis on shared machines; and which event loop a test module runs on, its own `loop_factory` or asyncio's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

import hypothesis
import pytest

# Machines are shared: how long one example takes says nothing. A failure prints what replays it.
hypothesis.settings.register_profile(
    "meshd", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("meshd")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A test that sets up the agent's logging leaves nothing of it to the next, which may want to read the log."""
    root, ours = logging.getLogger(), logging.getLogger("meshd")
    handlers, levels = root.handlers, (root.level, ours.level)
    yield
    if root.handlers is not handlers:
        root.handlers = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """A module that says `loop_factory = VirtualTimeLoop` has all its async tests run in virtual time.

    One with `loop_factories`, a dictionary by name, has each of them run on every loop of it.
    """
    module = getattr(item, "module", None)
    several: dict[str, Callable[[], asyncio.AbstractEventLoop]] | None = getattr(module, "loop_factories", None)
    return several or {"loop": getattr(module, "loop_factory", asyncio.new_event_loop)}
