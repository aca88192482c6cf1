"""The openai SDK against every kind of node, and what the answers say about their way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from meshd.local_agents import LocalAgent, local_agents
from tests.live.toy import LOAD_TIMEOUT_S, MODEL, SERVES_TOY, api_of, chat, sees_ready

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Trio:
    """A founder with the toy model, a member without, and a lite client."""

    founder: LocalAgent
    member: LocalAgent
    client: LocalAgent

    def named(self, name: str) -> LocalAgent:
        agent: LocalAgent = getattr(self, name)
        return agent


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trio(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Trio]:
    agents = local_agents(tmp_path_factory.mktemp("trio"))
    async with AsyncExitStack() as stack:
        founder = await stack.enter_async_context(agents.start("founder", SERVES_TOY))
        member = await stack.enter_async_context(agents.start("member", ["--join", await founder.token("member")]))
        client = await stack.enter_async_context(
            agents.start("client", ["--client", "--join", await founder.token("client")])
        )
        yield Trio(founder, member, client)


async def sdk(agent: LocalAgent) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{await api_of(agent)}/v1", api_key="unused", max_retries=0, timeout=60)


EVERYWHERE = pytest.mark.parametrize("place", ["founder", "member", "client"])


@EVERYWHERE
async def test_the_sdk_lists_the_models_of_the_mesh(trio: Trio, place: str) -> None:
    models = [model.id async for model in (await sdk(trio.named(place))).models.list()]

    assert models == [MODEL]


@EVERYWHERE
async def test_the_sdk_completes(trio: Trio, place: str) -> None:
    answer = await (await sdk(trio.named(place))).chat.completions.create(**chat("What is meshd?"))

    assert "meshd" in (answer.choices[0].message.content or "")
    assert answer.usage is not None and answer.usage.completion_tokens > 5


@EVERYWHERE
async def test_the_sdk_streams_the_same_answer(trio: Trio, place: str) -> None:
    client = await sdk(trio.named(place))
    whole = await client.chat.completions.create(**chat("What is bend?"))

    pieces = [
        chunk.choices[0].delta.content or ""
        async for chunk in await client.chat.completions.create(**chat("What is bend?"), stream=True)
        if chunk.choices
    ]

    assert len(pieces) > 5
    assert "".join(pieces) == whole.choices[0].message.content


async def test_other_paths_reach_the_engine_untouched(trio: Trio) -> None:
    api = await api_of(trio.client)
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{api}/tokenize", json={"model": MODEL, "content": "hello mesh"}) as response:
            tokens = (await response.json())["tokens"]
        async with session.get(f"{api}/props?model={MODEL}") as response:
            properties = await response.json()

    assert len(tokens) > 1
    assert Path(properties["model_path"]).stem == MODEL


async def test_an_answer_says_where_it_came_from(trio: Trio) -> None:
    api = await api_of(trio.client)
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{api}/v1/chat/completions", json=chat("What is meshd?"), headers={"x-request-id": "my-request"}
        ) as response,
    ):
        headers = response.headers

    assert (headers["x-meshd-node"], headers["x-meshd-mode"]) == ("founder", "solo")
    assert headers["x-request-id"] == "my-request"


async def test_the_status_knows_host_member_and_client(trio: Trio) -> None:
    status = await trio.founder.until(
        lambda status: sees_ready(status) and len(status["peers"]) == 2 and status["models"][0]["term"] > 0,
        LOAD_TIMEOUT_S,
    )

    roles = {peer["name"]: (peer["role"], peer["state"]) for peer in status["peers"]}
    assert roles == {"member": ("member", "alive"), "client": ("client", "alive")}
    assert status["host"] is True
    assert status["node"]["role"] == "owner"
    (model,) = status["models"]
    assert (model["name"], model["host"], model["mode"]) == (MODEL, "founder", "solo")


async def test_a_client_is_not_counted_as_memory(trio: Trio) -> None:
    status = await trio.client.until(lambda status: status["vram_total_gb"] > 0 and len(status["peers"]) == 2, 60)

    members = sum(peer["vram"]["total_gb"] for peer in status["peers"])
    assert status["vram_total_gb"] == pytest.approx(members, abs=0.05)
    assert status["host"] is False
