"""Passes requests to an HTTP server on loopback and its answers back, untouched.

Only hop-by-hop headers, credentials and CORS answers (our own door's business) are taken out. aiohttp is
imported when a proxy is first opened: a node without an engine never needs it.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self
from weakref import WeakSet

from llm.engines.interface import EngineFailed, Headers, Request

if TYPE_CHECKING:
    import aiohttp

# RFC 9110 §7.6.1, and what our own client connection sets itself.
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization"}
    | {"te", "trailer", "transfer-encoding", "upgrade"}
)
# With a conversation id llama-server goes on generating for a client that left, and keeps its slot.
NOT_SENT = HOP_BY_HOP | {"host", "content-length", "expect", "authorization", "x-api-key", "x-conversation-id"}
SET_BY_AIOHTTP = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")

CONNECT_TIMEOUT_S = 5.0
# aiohttp warns of larger bodies handed over as bytes.
MAX_BYTES_IN_ONE_WRITE = 1 << 20
MAX_SMALL_ANSWER = 1 << 20


class HttpProxy:
    """Connections to one server. Use as `async with`; leaving it breaks off what is still being answered.

    base: "http://127.0.0.1:PORT".  api_key: sent as bearer token, unless empty.  name: of the engine, for messages.
    """

    def __init__(self, base: str, api_key: str, name: str) -> None:
        self.base = base
        self._credentials = [("authorization", f"Bearer {api_key}")] if api_key else []
        self._name = name
        self._answering: WeakSet[aiohttp.ClientResponse] = WeakSet()

    async def __aenter__(self) -> Self:
        import aiohttp
        import yarl

        self._aiohttp = aiohttp
        self._url = yarl.URL
        self._session = aiohttp.ClientSession(
            # llama-server hangs up after a stream, some 10 ms late: a kept connection cost the next request 13 ms
            # (measured), a new one on loopback costs 0.2.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=SET_BY_AIOHTTP,
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # aiohttp forgets whoever reads a body when it closes the connection under it, and they wait for ever.
        for response in list(self._answering):
            if not response.content.at_eof():
                response.content.set_exception(self._aiohttp.ClientConnectionError(f"{self._name} was ended"))
        await self._session.close()

    async def send(self, request: Request) -> aiohttp.ClientResponse:
        """Send `request` and return when the head of the answer is there. Raises EngineFailed, retryable."""
        try:
            response = await self._send(request)
            self._answering.add(response)
            return response
        except (self._aiohttp.ClientError, TimeoutError) as error:
            raise self._failed(error) from error

    async def get(self, path: str, timeout_s: float) -> tuple[int, bytes]:
        """Status and body of an answer of at most 1 MiB. Raises EngineFailed."""
        try:
            async with self._session.get(
                self.base + path,
                headers=self._credentials,
                timeout=self._aiohttp.ClientTimeout(total=timeout_s),
            ) as response:
                return response.status, await _read_small(response)
        except (self._aiohttp.ClientError, TimeoutError) as error:
            raise self._failed(error) from error

    async def _send(self, request: Request) -> aiohttp.ClientResponse:
        headers = [(name, value) for name, value in request.headers if name not in NOT_SENT]
        headers += self._credentials
        small = len(request.body) <= MAX_BYTES_IN_ONE_WRITE
        return await self._session.request(
            request.method,
            self._url(self.base + request.path, encoded=True),
            headers=headers,
            data=(request.body if small else io.BytesIO(request.body)) if request.body else None,
            allow_redirects=False,
        )

    def _failed(self, error: Exception) -> EngineFailed:
        return EngineFailed(f"{self._name} did not answer: {error or type(error).__name__}", retryable=True)


class HttpReply:
    """A `Reply` that comes from an HTTP server.

    explain: makes the error to raise out of what aiohttp said when the body breaks off.  on_close: called once.
    see: told each piece of the body.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        explain: Callable[[str], Awaitable[EngineFailed]],
        on_close: Callable[[], None],
        see: Callable[[bytes], None] | None = None,
    ) -> None:
        self.status = response.status
        self.headers = _end_to_end(response)
        self._response = response
        self._explain = explain
        self._on_close = on_close
        self._see = see
        self._is_closed = False

    async def chunks(self) -> AsyncIterator[bytes]:
        import aiohttp

        try:
            async for chunk in self._response.content.iter_any():
                if self._see is not None:
                    self._see(chunk)
                yield chunk
        except aiohttp.ClientError as error:
            raise await self._explain(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        """Close the connection unless the answer was complete: this is how llama-server learns to free the slot."""
        if not self._is_closed:
            self._is_closed = True
            if self._response.content.at_eof():
                self._response.release()
            else:
                self._response.close()
            self._on_close()


def _end_to_end(response: aiohttp.ClientResponse) -> Headers:
    named = {name.strip().lower() for value in response.headers.getall("connection", []) for name in value.split(",")}
    pairs = ((name.lower(), value) for name, value in response.headers.items())
    return tuple(
        (name, value)
        for name, value in pairs
        if name not in HOP_BY_HOP and name not in named and not name.startswith("access-control-")
    )


async def _read_small(response: aiohttp.ClientResponse) -> bytes:
    parts = []
    length = 0
    async for part in response.content.iter_any():
        length += len(part)
        if length > MAX_SMALL_ANSWER:
            raise EngineFailed(f"{response.url} answered with more than {MAX_SMALL_ANSWER >> 20} MiB", retryable=False)
        parts.append(part)
    return b"".join(parts)
