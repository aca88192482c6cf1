"""More agents at a time than their conversations have room, each with a word of its own that it must get back."""

from __future__ import annotations

import pytest

from bench.agents import run

pytestmark = pytest.mark.timeout(600)

AGENTS = 16


async def test_every_agent_gets_its_own_word_back_and_a_drained_node_is_as_it_was() -> None:
    # Two bursts: the first touches memory that the context has had reserved from its start.
    _, second = await run([AGENTS, AGENTS], cells=1024)
    assert (second.opened, second.right, second.errors) == (AGENTS, 2 * AGENTS, {})
    assert second.parkings > 0
    assert second.drained_mb <= 1.05 * second.before_mb
