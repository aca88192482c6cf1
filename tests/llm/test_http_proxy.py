"""Requests and answers pass an HTTP server untouched, and a server that breaks off is a typed failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from llm.engines.http_proxy import HttpProxy, HttpReply
from llm.engines.interface import EngineFailed, Request
from tests.llm.requests import get, post, read

pytestmark = pytest.mark.live

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def proxy_to(talk: Talk) -> AsyncIterator[HttpProxy]:
    """A proxy to a server on loopback that does with each connection what the test says."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, HttpProxy(f"http://127.0.0.1:{port}", "secret", "the engine") as proxy:
        yield proxy


async def read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """Request line, headers and body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    return head[0], headers, await reader.readexactly(int(headers.get("content-length", 0)))


async def explained(detail: str) -> EngineFailed:
    return EngineFailed(f"broke off: {detail}", retryable=False)


async def ask(proxy: HttpProxy, request: Request) -> HttpReply:
    return HttpReply(await proxy.send(request), explained, lambda: None)


async def test_request_arrives_untouched_but_for_what_belongs_to_the_hop() -> None:
    seen = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    headers = (
        *(("x-custom", "kept"), ("accept-language", "de"), ("content-type", "text/odd")),
        *(("connection", "close"), ("te", "trailers"), ("authorization", "Bearer stolen"), ("x-api-key", "stolen")),
        ("x-conversation-id", "survives its client"),
    )
    async with proxy_to(talk) as proxy:
        assert await read(await ask(proxy, Request("r", "m", "PUT", "/a%2Fb?c=%20d", headers, b"body", 5.0))) == b"ok"
    ((line, got, body),) = seen
    assert line == "PUT /a%2Fb?c=%20d HTTP/1.1"
    assert body == b"body"
    assert (got["x-custom"], got["accept-language"], got["content-type"]) == ("kept", "de", "text/odd")
    assert got["authorization"] == "Bearer secret"
    assert not {"te", "x-api-key", "x-conversation-id", "user-agent", "accept", "accept-encoding"} & set(got)


async def test_answer_comes_back_untouched_but_for_what_belongs_to_the_hop() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(
            b"HTTP/1.1 418 Odd\r\nX-Kept: yes\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n"
            b"Connection: keep-alive, X-Hop\r\nX-Hop: no\r\nKeep-Alive: timeout=5\r\n"
            b"Access-Control-Allow-Origin: *\r\n\r\nraw"
        )
        await writer.drain()

    async with proxy_to(talk) as proxy:
        reply = await ask(proxy, get("m", "/"))
        assert await read(reply) == b"raw"
    assert reply.status == 418
    assert reply.headers == (("x-kept", "yes"), ("content-encoding", "gzip"), ("content-length", "3"))


async def test_connection_that_the_server_closes_under_a_request_is_replaced() -> None:
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        await reader.read(1)  # the next request on this connection begins, and is hung up on

    async with proxy_to(talk) as proxy:
        for _ in range(3):
            assert await read(await ask(proxy, post("m", "/", b"{}"))) == b"ok"
    assert connections == 3


async def test_large_bodies_go_through() -> None:
    body = bytes(range(256)) * 20_000

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, _, got = await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(got) + got)
        await writer.drain()

    async with proxy_to(talk) as proxy:
        assert await read(await ask(proxy, post("m", "/", body))) == body


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n9\r\nha",
    ],
)
async def test_answer_that_breaks_off_is_explained(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    async with proxy_to(talk) as proxy:
        reply = await ask(proxy, post("m", "/", b"{}"))
        with pytest.raises(EngineFailed, match="broke off"):
            await read(reply)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", b"SSH-2.0-nonsense\r\n\r\n"])
async def test_server_that_does_not_speak_http_is_a_failure_that_may_be_retried(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    async with proxy_to(talk) as proxy:
        with pytest.raises(EngineFailed, match="the engine did not answer") as failure:
            await ask(proxy, post("m", "/", b"{}"))
        assert failure.value.retryable


async def test_nobody_listening_is_a_failure_that_may_be_retried() -> None:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with HttpProxy(f"http://127.0.0.1:{port}", "secret", "the engine") as proxy:
        with pytest.raises(EngineFailed) as failure:
            await ask(proxy, get("m", "/"))
        assert failure.value.retryable


async def test_closing_half_way_closes_the_connection() -> None:
    closed = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        await writer.drain()
        await reader.read()
        closed.set()

    async with proxy_to(talk) as proxy:
        reply = await ask(proxy, post("m", "/", b"{}"))
        assert await anext(reply.chunks()) == b"half"
        await reply.close()
        await reply.close()
        async with asyncio.timeout(60):
            await closed.wait()


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"])
async def test_leaving_the_proxy_breaks_off_what_is_still_being_answered(head: bytes) -> None:
    """An engine that is ended must not leave anybody waiting for the rest of its answer."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(head)
        await writer.drain()
        await reader.read()

    async def ask_and_read(proxy: HttpProxy) -> bytes:
        return await read(await ask(proxy, get("m", "/")))

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        async with proxy_to(talk) as proxy:
            asking = group.create_task(_outcome(ask_and_read(proxy)))
            await asyncio.sleep(0.2)  # the answer has begun by then, or the question has arrived
            assert not asking.done()
        assert isinstance(await asking, EngineFailed)


async def _outcome(asking: Awaitable[bytes]) -> bytes | EngineFailed:
    try:
        return await asking
    except EngineFailed as error:
        return error
