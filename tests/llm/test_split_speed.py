"""A split at a distance is as slow as predicted: the real engine, its RPC server, our tunnel, a relay that delays.

The whole table is `python -m bench.split_plan`'s; here one distance tells k, and another, twice as far, is predicted.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.split_plan import token_ms, tunnelled
from llm.plan_speed import Point, fit
from tests.llm.architectures import Plan, write_architecture
from tests.llm.engine_loads import rpc_servers

pytestmark = pytest.mark.live

SMALL = Plan("llama", layers=2, vocabulary=500)
ROUNDS = 6
WITHIN = 0.25


@pytest.mark.timeout(400)
async def test_split_at_twice_the_distance_is_predicted(tmp_path: Path) -> None:
    model = write_architecture(tmp_path / "small.gguf", SMALL)

    async def measured(rtt_ms: float) -> float:
        with rpc_servers(1, tmp_path, threads=1) as servers:
            async with tunnelled(servers, rtt_ms) as listeners:
                return await token_ms(model, tmp_path, listeners, SMALL.layers, answers=2)

    near_ms = far_ms = alone_ms = float("inf")
    for _ in range(ROUNDS):  # what else runs on this machine only slows: the fastest counts
        near_ms, far_ms = min(near_ms, await measured(20)), min(far_ms, await measured(40))
        alone_ms = min(alone_ms, await token_ms(model, tmp_path, [], answers=2))
        fitted = fit([Point("20 ms", 2, 20, alone_ms, near_ms)])
        error = fitted.token_ms(alone_ms, [40]) / far_ms - 1
        if abs(error) < WITHIN:
            break
    # llama.cpp needs at least one round trip for each token; many more would mean that the tunnel waits for nothing.
    assert 0.9 < fitted.round_trips < 2.5
    assert abs(error) < WITHIN, (alone_ms, near_ms, far_ms)
