"""What a client gets for a request that cannot be answered: a 4xx in OpenAI's shape, never another model's answer."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from meshd.local_agents import LocalAgents
from tests.live.toy import api_of

ECHO = ("--model", "echo:parrot")
GOOD = {"model": "parrot", "messages": [{"role": "user", "content": "hello"}]}


async def post(api: str, body: Any, **options: Any) -> tuple[int, dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{api}/v1/chat/completions", **({"data": body} | options)) as response,
    ):
        return response.status, await response.json()


def check_shape(answer: dict[str, Any]) -> dict[str, Any]:
    error: dict[str, Any] = answer["error"]
    assert {"message", "type", "param", "code", "request_id"} <= set(error)
    return error


async def test_bad_requests_get_openai_shaped_errors(agents: LocalAgents) -> None:
    async with (
        agents.start("founder", ECHO) as founder,
        agents.start("client", ["--client", "--join", await founder.token("client")]) as client,
    ):
        for api in (await api_of(founder, "parrot"), await api_of(client, "parrot")):
            await unknown_model(api)
            await malformed(api)
            await too_large(api)
            await too_many_headers(api)
            await served_all_the_same(api)


async def unknown_model(api: str) -> None:
    status, answer = await post(api, None, json={**GOOD, "model": "gpt-9"})
    error = check_shape(answer)
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "parrot" in error["message"]


async def malformed(api: str) -> None:
    bodies = [b"{", b"[]", b'"text"', b'{"model": 1}', b'{"model": "parrot", "messages": 5}', b"\xff\xfe"]
    bodies += [b"[" * 50_000]
    for body in bodies:
        status, answer = await post(api, body, headers={"content-type": "application/json"})
        assert 400 <= status < 500, body[:40]
        assert check_shape(answer)["type"] == "invalid_request_error"


async def too_large(api: str) -> None:
    host, _, port = api.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 104857600\r\n\r\n")
    async with asyncio.timeout(60):
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.read(65536)
    writer.close()
    assert head.startswith(b"HTTP/1.1 413")
    assert b"larger than the limit of 64 MiB" in body


async def too_many_headers(api: str) -> None:
    for headers in ({"x-long": "v" * 9000}, {f"x-{number}": "v" for number in range(120)}):
        status, answer = await post(api, None, json=GOOD, headers=headers)
        assert (status, check_shape(answer)["code"]) == (431, "headers_too_large")


async def served_all_the_same(api: str) -> None:
    status, answer = await post(api, None, json=GOOD)
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "hello")


async def test_a_key_file_closes_the_api(agents: LocalAgents) -> None:
    key_file = agents.folder / "keys"
    key_file.write_text("# ours\nsk-right\n")
    async with agents.start("founder", [*ECHO, "--api-key-file", str(key_file)]) as founder:
        api = await api_of(founder, "parrot")

        status, answer = await post(api, None, json=GOOD)
        wrong, _ = await post(api, None, json=GOOD, headers={"authorization": "Bearer sk-wrong"})
        right, _ = await post(api, None, json=GOOD, headers={"authorization": "Bearer sk-right"})

    assert (status, wrong, right) == (401, 401, 200)
    assert "Bearer KEY" in check_shape(answer)["message"]


async def test_health_says_whether_a_model_answers(agents: LocalAgents) -> None:
    async with agents.start("empty") as empty, aiohttp.ClientSession() as session:
        async with session.get(f"{(await empty.status())['doors']['api']}/health") as response:
            assert response.status == 503
            assert "meshd --model" in (await response.json())["reason"]
    async with agents.start("founder", ECHO) as founder, aiohttp.ClientSession() as session:
        async with session.get(f"{await api_of(founder, 'parrot')}/health") as response:
            assert response.status == 200


@pytest.mark.parametrize("flag", ["--port", "--bind"])
async def test_a_taken_port_is_explained(agents: LocalAgents, flag: str) -> None:
    async with agents.start("founder") as founder:
        doors = (await founder.status())["doors"]
        taken = doors["api"].rpartition(":")[2] if flag == "--port" else doors["mesh"]
        async with agents.launched("second", [flag, taken]) as second:
            status = await asyncio.wait_for(second.child.wait(), 60)
        said = second.log.read_text()

    assert status == 1
    assert f"pid {founder.child.pid}" in said
    assert f"meshd {flag}" in said
