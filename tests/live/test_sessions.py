"""Sessions through real agents: opened at one node, asked for at another, gone with their key or their node."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from meshd.local_agents import LocalAgent, LocalAgents
from tests.live.test_keys import meshd_key
from tests.live.toy import HOUR, MODEL, SERVES_TOY, api_of, chat, events

pytestmark = pytest.mark.timeout(300)


async def asked(http: aiohttp.ClientSession, method: str, url: str, body: Any = None, key: str = "") -> dict[str, Any]:
    """The JSON of the answer, its status as "status"."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with http.request(method, url, json=body, headers=headers) as response:
        return dict(json.loads(await response.read())) | {"status": response.status}


async def opened(http: aiohttp.ClientSession, api: str, **more: Any) -> str:
    about = await asked(http, "POST", f"{api}/v1/sessions", {"model": MODEL}, **more)
    assert about["status"] == 201, about
    return str(about["id"])


async def token_of(agent: LocalAgent) -> str:
    return await agent.token("member")


async def test_a_session_is_one_wherever_it_is_asked_for(agents: LocalAgents) -> None:
    async with agents.start("host", SERVES_TOY) as host:
        async with (
            agents.start("door", ("--join", await token_of(host))) as door,
            aiohttp.ClientSession(timeout=HOUR) as http,
        ):
            here, there = await api_of(host), await api_of(door)
            session = await opened(http, there)
            question = chat("What is meshd?", session_id=session)
            first = await asked(http, "POST", f"{there}/v1/chat/completions", question)
            assert first["session_id"] == session
            plain = await asked(http, "POST", f"{there}/v1/chat/completions", chat("What is meshd?"))
            assert plain["choices"][0]["message"]["content"] == first["choices"][0]["message"]["content"]
            again = await asked(http, "POST", f"{here}/v1/chat/completions", question)
            assert again["choices"] == first["choices"]
            assert again["timings"]["cache_n"] > 0
            await _streams(http, there, session)
            # Its tier and bytes are to be seen at the node that keeps it.
            status = await host.until(lambda status: status["sessions"] and status["sessions"][0]["live_bytes"], 60)
            (kept,) = status["sessions"]
            assert (kept["model"], kept["open"], kept["resident"], kept["parked"]) == (MODEL, 1, 1, 0)
            assert kept["resident_bytes"] >= kept["live_bytes"]
            async with http.get(f"{status['doors']['console']}/metrics") as response:
                assert f'meshd_sessions{{model="{MODEL}",tier="resident"}} 1.0' in await response.text()
            assert (await door.status())["sessions"] == []
            await _checks_what_is_refused(http, there, session)
            assert (await asked(http, "DELETE", f"{there}/v1/sessions/{session}"))["deleted"]
            assert (await asked(http, "GET", f"{here}/v1/sessions/{session}"))["status"] == 410
            session = await opened(http, there)
            await host.call("leave", force=True)
            async with asyncio.timeout(60):
                while (answer := await asked(http, "GET", f"{there}/v1/sessions/{session}"))["status"] != 410:
                    assert answer["status"] in (200, 502, 503), answer
                    await asyncio.sleep(0.2)
            assert answer["error"]["code"] == "session_gone"


async def _streams(http: aiohttp.ClientSession, api: str, session: str) -> None:
    body = {"text": " And how", "max_tokens": 8}
    async with http.post(f"{api}/v1/sessions/{session}/generate", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-meshd-node"] == "host"
        told = [event async for event in events(response)]
    assert 0 < told[-1]["usage"]["completion_tokens"] <= 8


async def _checks_what_is_refused(http: aiohttp.ClientSession, api: str, session: str) -> None:
    cases = (
        ("/v1/completions", {"model": MODEL, "prompt": "x", "session_id": session}, 400),
        ("/v1/chat/completions", chat("x", session_id=session) | {"model": "another"}, 400),
        ("/v1/chat/completions", chat("x", session_id="mine"), 404),
        ("/v1/chat/completions", chat("x", session_id=f"sess-{'0' * 16}-{session[22:]}"), 410),
        (f"/v1/sessions/{session[:-1]}0/append", {"text": "x"}, 410 if not session.endswith("0") else 200),
    )
    for path, body, status in cases:
        answer = await asked(http, "POST", f"{api}{path}", body)
        assert answer["status"] == status, (path, answer)


async def test_sessions_belong_to_the_key_that_made_them(agents: LocalAgents, tmp_path: Path) -> None:
    async with agents.start("host", SERVES_TOY) as host, aiohttp.ClientSession(timeout=HOUR) as http:
        api = await api_of(host)
        keys = [meshd_key(host.directory, "create", name)["key"] for name in ("ann", "ben")]
        session = await opened(http, api, key=keys[0])
        url = f"{api}/v1/sessions/{session}"
        assert (await asked(http, "GET", url, key=keys[0]))["status"] == 200
        assert (await asked(http, "GET", url, key=keys[1]))["status"] == 410
        assert (await asked(http, "GET", url))["status"] == 401
