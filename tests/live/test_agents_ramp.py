"""More agents at a time than their conversations have room, each with a word of its own that it must get back."""

from __future__ import annotations

import pytest

from bench.agents import run

pytestmark = pytest.mark.timeout(600)

AGENTS = 24


async def test_every_agent_gets_its_own_word_back_and_a_drained_node_is_as_it_was() -> None:
    # The first session starts the process that keeps them, so that there is something to come back to.
    _, burst = await run([1, AGENTS], cells=1024)
    assert (burst.opened, burst.right, burst.errors) == (AGENTS, 2 * AGENTS, {})
    assert burst.parkings > 0
    assert burst.drained_mb <= 1.05 * burst.before_mb
