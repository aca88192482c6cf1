"""One request can be followed through the log of every node that it passes, and is counted once on each."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bench.bend import is_linked, measured
from meshd.local_agents import LocalAgent, LocalAgents
from tests.live.test_bend_mesh import modular_powers
from tests.live.toy import LONG_ANSWER, MODEL, SERVES_TOY, api_of, chat

JSON_LOGS = ("--log-format", "json")
TEXT = {"content-type": "text/plain"}
REQUESTS = 3
LASTING = {"max_tokens": 400, "n_predict": 400}
"""Long enough to come in several pieces on a busy host, too."""


def lines_about(log: Path, request_id: str) -> list[dict[str, Any]]:
    """The lines of a log about that request; every line has to be one JSON object."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert lines
    return [line for line in lines if line.get("request_id") == request_id]


async def followed(agent: LocalAgent, request_id: str, *words: str) -> None:
    """Wait for a line about that request that has all these words; lines are written once an answer is taken."""
    async with asyncio.timeout(60):
        while not any(all(word in str(line) for word in words) for line in lines_about(agent.log, request_id)):
            await asyncio.sleep(0.1)


async def counters(agent: LocalAgent) -> dict[str, float]:
    """Sums of the counters and counts of one model, by metric."""
    console = (await agent.status())["doors"]["console"]
    async with aiohttp.ClientSession() as session, session.get(f"{console}/metrics") as response:
        text = await response.text()
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels.get("model") == MODEL:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


async def test_a_request_is_followed_by_its_id_and_counted_where_it_was_asked(agents: LocalAgents) -> None:
    async with (
        agents.start("host", [*SERVES_TOY, *JSON_LOGS]) as host,
        agents.start("laptop", ["--client", *JSON_LOGS, "--join", await host.token("client")]) as laptop,
    ):
        api = await api_of(laptop)
        async with aiohttp.ClientSession() as session:
            for number in range(REQUESTS):
                headers = {"x-request-id": f"followed-{number}"}
                url, body = f"{api}/v1/chat/completions", chat("Tell", **(LONG_ANSWER | LASTING))
                async with session.post(url, json=body, headers=headers) as response:
                    assert response.headers["x-request-id"] == f"followed-{number}"
                    assert (await response.read()).endswith(b"data: [DONE]\n\n")
        for number in range(REQUESTS):
            for agent, logger in ((laptop, "meshd.api"), (host, "meshd.llm")):
                await followed(agent, f"followed-{number}", logger)
        asked, answered = await counters(laptop), await counters(host)
        assert asked["meshd_requests_total"] == REQUESTS
        assert asked["meshd_ttft_seconds_count"] == REQUESTS
        assert asked["meshd_tokens_total"] > 5 * REQUESTS
        assert asked["meshd_inter_token_seconds_count"] > REQUESTS  # a busy host sends many tokens in one piece
        assert answered["meshd_model_ready"] == 1
        assert "meshd_requests_total" not in answered


async def test_a_form_call_is_followed_by_its_id_from_the_http_door_to_the_node_that_computes(
    agents: LocalAgents,
) -> None:
    """The door's node is so slow that the other one is to compute."""
    slow = replace(agents, environment={"MESHD_FORM_SLOWNESS": "8"})
    async with (
        slow.start("near", JSON_LOGS) as near,
        agents.start("far", [*JSON_LOGS, "--join", await near.token("member")]) as far,
    ):
        await near.until(is_linked, 90)
        await measured(near, 2)
        url = str((await near.status())["doors"]["bend-http"])
        async with aiohttp.ClientSession() as session:
            for number in range(REQUESTS):
                call, headers = f"(bend {modular_powers(200, number)})", {**TEXT, "x-request-id": f"bent-{number}"}
                async with session.post(url, data=call.encode(), headers=headers) as response:
                    assert response.headers["x-request-id"] == f"bent-{number}"
                    assert (await response.read()).startswith(b"(ok ")
            async with session.post(url, data=b"(ping)", headers=TEXT) as response:
                assert response.headers["x-request-id"].startswith("req-")
        for number in range(REQUESTS):
            await followed(near, f"bent-{number}", "meshd.forms", "bytes in")
        deeds = (await near.call("activity"))["deeds"]
        went = [deed["request_id"] for deed in deeds if deed["where"] == "far" and deed["request_id"]]
        assert went, deeds
        await followed(far, went[0], "meshd.forms", "for node")
