"""bend on a real agent: both doors answer, a key is asked for where one is set, and a port taken is no disaster."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from pathlib import Path

import aiohttp

from meshd.config import BEND_PORT
from meshd.local_agents import LocalAgent, LocalAgents, last_lines

CALL = '(cuda-shake-fanout \'("00" "deadbeef") 32)'
ANSWER = "(ok ({}))".format(
    " ".join(f'"{hashlib.shake_256(bytes.fromhex(one)).hexdigest(32)}"' for one in ("00", "deadbeef"))
)


async def door(agent: LocalAgent, name: str) -> str:
    return str((await agent.status())["doors"][name])


async def ask_wire(address: str, *texts: str) -> list[str]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    said = []
    async with asyncio.timeout(60):
        for text in texts:
            writer.write(text.encode())
            said.append((await reader.readline()).decode().strip())
    writer.close()
    return said


async def ask_http(url: str, text: str, **headers: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=text.encode(), headers={"content-type": "text/plain", **headers}) as answer,
    ):
        return answer.status, (await answer.text()).strip()


async def test_both_doors_answer_beside_the_api(agents: LocalAgents) -> None:
    async with agents.start("host") as host:
        assert await ask_wire(await door(host, "bend"), "(ping)", CALL) == ["(ok pong)", ANSWER]
        assert await ask_http(await door(host, "bend-http"), CALL) == (200, ANSWER)
        (health,) = await ask_wire(await door(host, "bend"), "(health)")
        assert health.startswith("(ok (load-avg ")


async def test_a_key_is_asked_for_where_one_is_set(agents: LocalAgents, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    async with agents.start("host", ["--bend-key-file", str(keys)]) as host:
        (refused,) = await ask_wire(await door(host, "bend"), "(ping)")
        assert refused.startswith("(error (auth ")
        assert await ask_wire(await door(host, "bend"), '(auth "secret")', "(ping)") == ["(ok auth)", "(ok pong)"]
        assert (await ask_http(await door(host, "bend-http"), "(ping)"))[0] == 401
        assert await ask_http(await door(host, "bend-http"), "(ping)", authorization="Bearer secret") == (
            200,
            "(ok pong)",
        )


async def test_the_network_is_not_let_in_without_a_key(agents: LocalAgents) -> None:
    async with agents.launched("host", ["--bend-listen", "0.0.0.0"]) as host:
        assert await host.child.wait() == 2
        assert "--bend-key-file" in last_lines(host.log)


async def test_a_taken_port_is_told_and_only_costs_bend(agents: LocalAgents) -> None:
    with socket.socket() as holder:
        try:
            holder.bind(("127.0.0.1", BEND_PORT))
            holder.listen()
        except OSError:
            pass  # whoever has it serves this test as well
        async with agents.start("host", ["--bend-port", str(BEND_PORT)]) as host:
            assert "bend" not in (await host.status())["doors"]
            assert "bend is off" in last_lines(host.log, 40)
        port = holder.getsockname()[1] or BEND_PORT
        async with agents.launched("other", ["--http-port", str(port), "--bend-port", "0"]) as other:
            assert await other.child.wait() == 1
            assert "--http-port" in last_lines(other.log)
