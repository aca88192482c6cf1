"""One HTTP exchange over ASGI: the whole body within a limit, the answer as it comes, the client's leaving.

Starlette's own streaming response notices a client that left only when it next writes; an engine that
still reads its prompt would keep the slot. Here the leaving cancels the work at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send

from llm.engines.interface import Headers


class BodyTooLarge(Exception):
    """The client sends more than `limit_bytes`."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the body is larger than {limit_bytes >> 20} MiB")
        self.limit_bytes = limit_bytes


class ClientLeft(Exception):
    """The client closed its connection before the exchange was over."""


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """The request's whole body. A declared length over the limit is refused before a byte is read.

    Raises BodyTooLarge, ClientLeft.
    """
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        size += len(message.get("body", b""))
        if size > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def until_client_leaves(receive: Receive, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work`, but no longer than the client stays. The body must have been read before.

    Raises what `work` raises; a client that left ends the work quietly.
    """
    async with asyncio.TaskGroup() as group:
        working = group.create_task(_carry(work), name="exchange")
        watching = group.create_task(_watch(receive, working), name="client watch")
        await asyncio.wait({working})
        watching.cancel()
    if not working.cancelled() and (error := working.result()):
        raise error


async def _carry(work: Callable[[], Awaitable[None]]) -> Exception | None:
    # Returned, not raised: the caller wants the error itself, not a group around it.
    try:
        await work()
    except Exception as error:  # noqa: BLE001 - handed on unchanged
        return error
    return None


async def _watch(receive: Receive, working: asyncio.Task[Exception | None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    working.cancel()


async def send_head(send: Send, status: int, headers: Headers) -> None:
    """Start the answer."""
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def send_body(send: Send, body: bytes, *, more: bool) -> None:
    """Send one piece of the answer; `more=False` ends it."""
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def send_whole(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send a complete answer."""
    length = ("content-length", str(len(body)))
    await send_head(send, status, (*headers, length))
    await send_body(send, body, more=False)
