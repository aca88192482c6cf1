"""One HTTP exchange on a real server: limits of the body, and a client that leaves."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from starlette.types import Receive, Scope, Send

from meshd.http_exchange import (
    BodyTooLarge,
    ClientLeft,
    read_body,
    send_body,
    send_head,
    send_whole,
    until_client_leaves,
)
from tests.meshd.serving import served

pytestmark = pytest.mark.live

LIMIT_BYTES = 100_000
PATIENCE_S = 60.0


async def measure(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer the length of the body, or 413."""
    try:
        body = await read_body(scope, receive, LIMIT_BYTES)
    except BodyTooLarge as error:
        await send_whole(send, 413, (), str(error).encode())
        return
    await send_whole(send, 200, (("content-type", "text/plain"),), str(len(body)).encode())


async def test_a_body_within_the_limit_arrives_whole() -> None:
    async with (
        served(measure) as port,
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{port}/", data=b"x" * LIMIT_BYTES) as response,
    ):
        assert (response.status, await response.text()) == (200, str(LIMIT_BYTES))


async def test_a_declared_length_over_the_limit_is_refused_before_the_body_is_sent() -> None:
    async with served(measure) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 104857600\r\n\r\n")

        head = await asyncio.wait_for(reader.readline(), PATIENCE_S)

        writer.close()
    assert b"413" in head


async def test_a_chunked_body_over_the_limit_is_refused() -> None:
    async with served(measure) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(20):
            writer.write(b"2710\r\n" + b"x" * 10_000 + b"\r\n")

        head = await asyncio.wait_for(reader.readline(), PATIENCE_S)

        writer.close()
    assert b"413" in head


class Waiting:
    """An app whose work never ends by itself; it records how it was ended."""

    def __init__(self, *, send_first: bool) -> None:
        self.send_first = send_first
        self.working = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await read_body(scope, receive, LIMIT_BYTES)
        except ClientLeft:
            return
        await until_client_leaves(receive, lambda: self.work(send))

    async def work(self, send: Send) -> None:
        if self.send_first:
            await send_head(send, 200, (("content-type", "text/event-stream"),))
            await send_body(send, b"data: {}\n\n", more=True)
        self.working.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@pytest.mark.parametrize("send_first", [False, True], ids=["before the head", "between chunks"])
async def test_a_client_that_leaves_ends_the_work_at_once(send_first: bool) -> None:
    app = Waiting(send_first=send_first)
    async with served(app) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
        await asyncio.wait_for(app.working.wait(), PATIENCE_S)

        writer.close()

        await asyncio.wait_for(app.cancelled.wait(), PATIENCE_S)


async def test_an_error_of_the_work_reaches_the_caller_as_itself() -> None:
    class Broken(Exception):
        pass

    async def receive() -> dict[str, str]:
        await asyncio.Event().wait()
        raise AssertionError

    async def work() -> None:
        raise Broken

    with pytest.raises(Broken):
        await until_client_leaves(receive, work)
