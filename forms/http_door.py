"""The HTTP door of bend: one datum of text a request, for pages in a browser. An ASGI application.

Who may ask is settled before anything runs: pages of this host always, others by name, nobody with a foreign Host.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from starlette.types import Receive, Scope, Send

from forms.errors import BadSyntax, BeyondLimit, Busy, FormFailed, NotAuthenticated
from forms.evaluate import error_line
from forms.held import Held, Share
from forms.reader import MAX_TEXT_BYTES
from forms.text_framing import TextMeasure, skip_white
from forms.web_origin import PREFLIGHT_S, is_allowed_origin, is_local_host

logger = logging.getLogger("meshd.forms")

HELP = b"POST one S-expression as text/plain, such as (ping) or (forms)\n"
UNFINISHED_S = 60.0
ID_HEADER = "x-request-id"
Headers = dict[str, str]
Follow = Callable[[str], AbstractContextManager[str]]
"""Takes the id that a caller gave, or nothing; the id to follow its call by, in the logs of all it passes."""


class _Refused(Exception):
    """An answer that is no 200."""

    def __init__(self, status: int, body: bytes, headers: Headers | None = None) -> None:
        super().__init__()
        self.status, self.body, self.headers = status, body, headers or {}


@dataclass(frozen=True, slots=True)
class HttpDoor:
    """answer: the reply to a datum.  origins: pages that may ask besides those of this host.  is_local: bound to
    loopback, so that a Host of another name is a page that tricks a browser (DNS rebinding).  follow: a call's id.
    """

    answer: Callable[[bytes], Awaitable[bytes]]
    limit_bytes: int
    keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    is_local: bool = True
    held: Held = field(default_factory=Held)
    follow: Follow = nullcontext

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One exchange."""
        assert scope["type"] == "http"
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        with self.follow(headers.get(ID_HEADER, "")) as request_id:
            common = self._cors(headers) | ({ID_HEADER: request_id} if request_id else {})
            await self._serve(scope, headers, common, receive, send)

    async def _serve(self, scope: Scope, headers: Headers, common: Headers, receive: Receive, send: Send) -> None:
        share = self.held.share()
        try:
            self._check_caller(headers)
            body = await self._exchange(scope["method"], scope["path"], headers, receive, share)
            await _send(send, 200, common | {"content-type": "text/plain; charset=utf-8"}, body)
        except _Refused as refused:
            kind = {"content-type": "text/plain; charset=utf-8"} if refused.body else {}
            await _send(send, refused.status, common | kind | refused.headers, refused.body)
        finally:
            share.keep(0)

    async def _exchange(self, method: str, path: str, headers: Headers, receive: Receive, share: Share) -> bytes:
        if path != "/":
            raise _Refused(404, HELP)
        if method == "OPTIONS":
            raise _Refused(204, b"", _preflight(headers))
        if method != "POST":
            raise _Refused(405, HELP, {"allow": "POST, OPTIONS"})
        if headers.get("content-type", "text/plain").partition(";")[0].strip().lower() != "text/plain":
            raise _Refused(415, HELP)
        self._check_key(headers)
        try:
            request = await self._read(headers, receive, share)
            reply = await self._logged(request, logging.INFO if headers.get(ID_HEADER) else logging.DEBUG)
            share.add(len(reply))
            return reply
        except Busy as error:
            raise _Refused(503, error_line(error)) from error

    async def _logged(self, request: bytes, level: int) -> bytes:
        """The answer, with a line in the log to follow the call by. level: a line takes as long as a (ping)."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        reply = await self.answer(request)
        milliseconds = 1000 * (loop.time() - began)
        logger.log(level, "a call of %d bytes: %d bytes in %.1f ms", len(request), len(reply), milliseconds)
        return reply

    def _check_caller(self, headers: Headers) -> None:
        if self.is_local and not is_local_host(headers.get("host", "")):
            raise _Refused(403, b"this door answers to the names of this host only\n")
        origin = headers.get("origin")
        if origin is not None and not is_allowed_origin(origin, self.origins):
            raise _Refused(403, b"pages of this origin may not ask here: name it with --allow-origin\n")

    def _check_key(self, headers: Headers) -> None:
        given = headers.get("authorization", "").removeprefix("Bearer ").strip().encode()
        if self.keys and not any(hmac.compare_digest(given, key.encode()) for key in self.keys):
            refusal = error_line(NotAuthenticated("this node wants a key: Authorization: Bearer KEY"))
            raise _Refused(401, refusal, {"www-authenticate": "Bearer"})

    def _cors(self, headers: Headers) -> Headers:
        origin = headers.get("origin")
        if origin is None or not is_allowed_origin(origin, self.origins):
            return {"vary": "Origin"}
        return {
            "vary": "Origin",
            "access-control-allow-origin": origin,
            "access-control-expose-headers": ID_HEADER,
        }

    async def _read(self, headers: Headers, receive: Receive, share: Share) -> bytes:
        """The one datum of the body. Raises Busy."""
        limit_bytes = min(self.limit_bytes, MAX_TEXT_BYTES)
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit_bytes:
            raise _Refused(413, error_line(BeyondLimit(f"a body of {length} bytes; the limit is {limit_bytes}")))
        try:
            async with asyncio.timeout(UNFINISHED_S):
                received = await _whole_body(receive, limit_bytes, share)
        except TimeoutError:
            late = BadSyntax(f"the body did not come within {UNFINISHED_S:g} s")
            raise _Refused(408, error_line(late), {"connection": "close"}) from None
        return _one_datum(received, limit_bytes)


async def _whole_body(receive: Receive, limit_bytes: int, share: Share) -> bytearray:
    received, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Refused(400, b"")
        piece = message.get("body", b"")
        share.add(len(piece))
        received += piece
        more = message.get("more_body", False)
        if len(received) > limit_bytes:
            raise _Refused(413, error_line(BeyondLimit(f"a body of more than {limit_bytes} bytes")))
    return received


def _one_datum(received: bytearray, limit_bytes: int) -> bytes:
    skip_white(received)
    try:
        length = TextMeasure(limit_bytes).advance(received) if received[:1] == b"(" else None
        if length is None or received[length:].strip():
            raise BadSyntax("expected one whole datum that begins with (")
    except FormFailed as error:
        raise _Refused(400, error_line(error)) from error
    return bytes(received[:length])


def _preflight(headers: Headers) -> Headers:
    answer = {
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": f"authorization, content-type, {ID_HEADER}",
        "access-control-max-age": PREFLIGHT_S,
    }
    if headers.get("access-control-request-private-network") == "true":
        answer["access-control-allow-private-network"] = "true"
    return answer


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    length = [] if status == 204 else [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": raw + length})
    await send({"type": "http.response.body", "body": body})
