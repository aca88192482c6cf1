"""One request can be followed through the log of every node that it passes, and is counted once on each."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from meshd.local_agents import LocalAgent, LocalAgents
from tests.live.toy import MODEL, SERVES_TOY, api_of, chat

JSON_LOGS = ("--log-format", "json")
REQUESTS = 3


def lines_about(log: Path, request_id: str) -> list[dict[str, Any]]:
    """The lines of a log about that request; every line has to be one JSON object."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert lines
    return [line for line in lines if line.get("request_id") == request_id]


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
                url, body = f"{api}/v1/chat/completions", chat("What is meshd?", stream=True)
                async with session.post(url, json=body, headers=headers) as response:
                    assert response.headers["x-request-id"] == f"followed-{number}"
                    assert (await response.read()).endswith(b"data: [DONE]\n\n")
        for number in range(REQUESTS):
            for agent, logger in ((laptop, "meshd.api"), (host, "meshd.llm")):
                async with asyncio.timeout(20):  # the line is written once the answer has been taken
                    while not [one for one in lines_about(agent.log, f"followed-{number}") if one["logger"] == logger]:
                        await asyncio.sleep(0.1)
        asked, answered = await counters(laptop), await counters(host)
        assert asked["meshd_requests_total"] == REQUESTS
        assert asked["meshd_ttft_seconds_count"] == REQUESTS
        assert asked["meshd_tokens_total"] > 5 * REQUESTS
        assert asked["meshd_inter_token_seconds_count"] > 5 * REQUESTS
        assert answered["meshd_model_ready"] == 1
        assert "meshd_requests_total" not in answered
