"""A client that waits for a stream while a model loads is told so, at home and one hop away; others just wait."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from llm.client import Router
from llm.engines.interface import EngineState, Request
from llm.engines.resident import LOAD_DEADLINE_S, Residence, Resident, ResidentEngine
from llm.host import ServedModel
from llm.residency import Policy
from meshd.api import Api
from meshd.arrivals import StillComing, until_here
from meshd.bringing import Bringing, Stage
from meshd.ingress import Ingress
from meshd.keys import KeyRing
from meshd.ledger import Account, Ledger
from tests.llm.mesh import mesh
from tests.llm.requests import chat
from tests.llm.scripted import ScriptedEngine, ScriptedReply
from transport.virtual_time import VirtualTimeLoop

loop_factory = VirtualTimeLoop


class Slow(ScriptedEngine):
    """Loads for so long, then answers, or fails."""

    def __init__(self, load_s: float, *, fails: bool = False) -> None:
        super().__init__([b"data: [DONE]\n\n"])
        self.state = EngineState.LOADING
        self._load_s, self._fails = load_s, fails

    async def run(self) -> None:
        await asyncio.sleep(self._load_s)
        self.become(EngineState.FAILED if self._fails else EngineState.READY)
        await asyncio.Event().wait()


class Refusing(Slow):
    """Answers with an error of its own, as llama-server does to a prompt that is too long."""

    async def answer(self, request: Request) -> ScriptedReply:
        self.script = [b'{"error":\n{"message": "too long"}}']
        reply = await super().answer(request)
        reply.status, reply.headers = 400, (("content-type", "application/json"),)
        return reply


def lazy(load_s: float, *, fails: bool = False, kind: type[Slow] = Slow) -> ResidentEngine:
    residence = Residence(Ledger([Account("GPU", "cuda", 10)]))
    return residence.add(Resident("tiny", lambda: kind(load_s, fails=fails), 5, 2))


@dataclass
class Client:
    """One HTTP exchange with the API."""

    router: Router
    coming: Bringing | None = None
    timeout_s: bytes = b""
    sent: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    async def ask(self, *, stream: bool) -> None:
        body = json.dumps({"model": "tiny", "messages": [], "stream": stream}).encode()
        incoming: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if incoming:
                return incoming.pop()
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Any) -> None:
            self.sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "query_string": b"",
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                *([(b"x-meshd-timeout-s", self.timeout_s)] if self.timeout_s else []),
            ],
        }
        api = Api(
            self.router,
            Ingress(KeyRing, time.time),
            lambda: {"data": []},
            lambda: (True, {}),
            lambda model: self.coming,
        )
        await api(scope, receive, send)


@pytest.mark.parametrize("hops", [0, 1])
async def test_a_stream_that_waits_for_a_load_is_told_so(hops: int) -> None:
    async with mesh({}, {"tiny": lazy(20.0)}) as nodes:
        client = Client(nodes[1 - hops].router)
        await client.ask(stream=True)
    assert client.status == 200
    assert dict(client.sent[0]["headers"])[b"content-type"] == b"text/event-stream"
    *comments, answer, _ = client.body.decode().split("\n\n")
    assert answer == "data: [DONE]"
    assert 4 <= len(comments) <= 10
    assert all(comment.startswith(": tiny: loading") for comment in comments)


@pytest.mark.parametrize("hops", [0, 1])
async def test_what_is_over_soon_has_a_status_of_its_own(hops: int) -> None:
    async with mesh({}, {"tiny": lazy(1.0)}) as nodes:
        client = Client(nodes[1 - hops].router)
        await client.ask(stream=True)
    assert client.body == b"data: [DONE]\n\n"
    assert b"x-meshd-node" in dict(client.sent[0]["headers"])


async def test_who_asked_for_no_stream_just_waits() -> None:
    async with mesh({"tiny": lazy(20.0)}) as (node,):
        client = Client(node.router)
        await client.ask(stream=False)
    assert client.body == b"data: [DONE]\n\n"
    assert b"x-meshd-node" in dict(client.sent[0]["headers"])


async def test_a_load_that_fails_after_the_wait_is_an_event_of_the_stream() -> None:
    async with mesh({"tiny": lazy(20.0, fails=True)}) as (node,):
        client = Client(node.router)
        await client.ask(stream=True)
    assert client.status == 200
    error = json.loads(client.body.decode().split("\n\n")[-2].removeprefix("data: "))
    assert "did not load" in error["error"]["message"]
    assert client.sent[-1]["more_body"] is False


async def test_an_engines_refusal_after_the_wait_is_an_event_of_the_stream() -> None:
    async with mesh({"tiny": lazy(20.0, kind=Refusing)}) as (node,):
        client = Client(node.router)
        await client.ask(stream=True)
    assert client.body.endswith(b'data: {"error": {"message": "too long"}}\n\n')


async def test_patience_has_an_end_with_a_time_to_come_back() -> None:
    residence = Residence(Ledger([Account("GPU", "cuda", 10)]))
    async with mesh({"tiny": residence.add(Resident("tiny", lambda: Slow(1.0), 500, 2))}) as (node,):
        client = Client(node.router)
        await client.ask(stream=False)
    assert client.status == 503
    assert dict(client.sent[0]["headers"])[b"retry-after"]
    assert "needs 0.00 GB" in json.loads(client.body)["error"]["message"]


# A deadline of the client's own


@pytest.mark.parametrize("hops", [0, 1])
async def test_a_request_ends_when_its_client_says_wherever_it_is_answered(hops: int) -> None:
    async with mesh({}, {"tiny": lazy(60.0)}) as nodes:
        client = Client(nodes[1 - hops].router, timeout_s=b"7.5")
        began = asyncio.get_running_loop().time()
        await client.ask(stream=False)
        assert asyncio.get_running_loop().time() - began == pytest.approx(7.5, abs=0.5)
        assert client.status in (503, 504)
        await asyncio.sleep(1)
        assert [node.in_flight for node in nodes] == [0] * len(nodes)


@pytest.mark.parametrize("timeout_s", [b"soon", b"0", b"-1", b"nan"])
async def test_a_time_that_is_none_is_refused(timeout_s: bytes) -> None:
    async with mesh({"tiny": lazy(1.0)}) as (node,):
        client = Client(node.router, timeout_s=timeout_s)
        await client.ask(stream=False)
    assert client.status == 400
    assert b"x-meshd-timeout-s" in client.body


# A model that is still on its way


def coming() -> Bringing:
    bringing = Bringing("tiny", Policy.LAZY, loads=False, is_patient=False, name="tiny")
    bringing.enter(Stage.BRINGING)
    bringing.meter.size_bytes, bringing.meter.source = 40_000_000, "the hub"
    return bringing


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_waits_for_a_model_that_is_being_brought_and_is_answered(stream: bool) -> None:
    async with mesh({}) as (node,):
        client = Client(node.router, coming())
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(client.ask(stream=stream))
            await asyncio.sleep(20)
            client.coming.meter.told(12_000_000, 20.0)  # type: ignore[union-attr]
            await asyncio.sleep(20)
            assert bool(client.sent) is stream and not asking.done()
            node.host.add(ServedModel("tiny", lazy(5.0), "ab" * 32))
            client.coming.enter(Stage.DONE)  # type: ignore[union-attr]
    assert client.status == 200
    *comments, answer, _ = client.body.decode().split("\n\n")
    assert answer == "data: [DONE]"
    assert any("tiny: bringing: 12.0 of 40.0 MB (30 %)" in one for one in comments) is stream
    assert any("tiny: loading" in one for one in comments) is stream


@pytest.mark.parametrize("stream", [True, False])
async def test_a_model_that_does_not_come_after_all_is_told_with_the_reason(stream: bool) -> None:
    async with mesh({}) as (node,):
        client = Client(node.router, coming())
        async with asyncio.TaskGroup() as group:
            group.create_task(client.ask(stream=stream))
            await asyncio.sleep(20)
            client.coming.enter(Stage.FAILED, "no room on the disk")  # type: ignore[union-attr]
    assert client.status == (200 if stream else 503)
    assert "no room on the disk" in client.body.decode()
    assert "model_not_brought" in client.body.decode()


async def test_who_hears_nothing_is_sent_away_after_a_while_with_how_far_it_is() -> None:
    async with mesh({}) as (node,):
        client = Client(node.router, coming())
        began = asyncio.get_running_loop().time()
        client.coming.meter.told(12_000_000, began)  # type: ignore[union-attr]
        await client.ask(stream=False)
        assert asyncio.get_running_loop().time() - began == pytest.approx(LOAD_DEADLINE_S, abs=10)
    assert (client.status, b"retry-after" in dict(client.sent[0]["headers"])) == (503, True)
    assert "on its way to this node (12.0 of 40.0 MB (30 %)" in client.body.decode()


async def test_who_is_told_waits_as_long_as_the_request_has_time() -> None:
    with pytest.raises(StillComing):
        await until_here(coming(), chat("tiny", deadline_s=1000.0), is_told=True)
    assert asyncio.get_running_loop().time() == pytest.approx(1000.0)
