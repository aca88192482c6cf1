"""Hypothesis on shared machines; the longest files first; and which event loop a test module runs on.

That is its own `loop_factory` or asyncio's.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

TESTS = Path(__file__).parent
LONGEST = (
    *("gossip/test_simulator.py", "forms/cuda/test_nvrtc.py", "live/test_scenarios.py", "live/test_resilience.py"),
    *("live/test_gossip_live.py", "live/test_admission.py", "live/test_models.py", "netns/test_pairing.py"),
    *("transport/test_fuzz.py", "live/test_split_guard.py", "transport/test_sharing.py", "netns/test_bundle.py"),
    *("live/test_join_refused.py", "live/test_cli.py", "netns/test_agents.py", "live/test_failures.py"),
    *("live/test_split_losses.py", "live/test_several_models.py", "live/test_bend_mesh.py", "live/test_plan.py"),
    *("repository/test_wheel.py", "browser/test_console.py", "gossip/test_fuzz.py", "mesh/test_admission_table.py"),
)
"""Of several workers one that begins such a file last works on while the others have nothing left to do."""

# Machines are shared: how long one example takes says nothing. A failure prints what replays it. A run judges the code,
# not the dice: it tries the examples that every run tries; `pytest --hypothesis-profile explore` throws them anew.
EXPLORE = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True)
hypothesis.settings.register_profile("explore", EXPLORE)
hypothesis.settings.register_profile("meshd", EXPLORE, derandomize=True)
hypothesis.settings.load_profile("meshd")


def pytest_configure(config: pytest.Config) -> None:
    """Have pytest-xdist keep our order of files: its own begins with those that have the most tests."""
    config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others as they were found."""
    place = {TESTS / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Have what a failed test left half-done end with it: what its garbage complains of would fail the next one."""
    failed = item.session.testsfailed
    outcome = yield
    if item.session.testsfailed > failed:
        _forget_what_failed()
    return outcome


def _forget_what_failed() -> None:
    for kept in ("last_type", "last_value", "last_traceback"):  # pytest keeps them for debuggers
        vars(sys).pop(kept, None)
    complains, sys.unraisablehook = sys.unraisablehook, sys.__unraisablehook__
    try:
        gc.collect()
    finally:
        sys.unraisablehook = complains


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
