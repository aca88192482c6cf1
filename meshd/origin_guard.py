"""Keeps web pages that nobody named away from a door of this host, before anything runs. An ASGI middleware.

Without it any page a user visits could ask the API on loopback: browsers send such requests and only hide the answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forms.web_origin import PREFLIGHT_S, host_name, is_allowed_origin, is_local_host

RawHeaders = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class OriginGuard:
    """origins: pages that may ask besides those of this host and the door's own.  is_local: bound to loopback only, so
    that another name in Host is a page that tricks a browser (DNS rebinding).  admits_local_pages: False where only the
    door's own page may ask.
    """

    app: ASGIApp
    origins: tuple[str, ...] = ()
    is_local: bool = True
    admits_local_pages: bool = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse with 403, answer a preflight, or hand on and name the page in the answer."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.is_local and not is_local_host(host):
            await _refuse(send, f"this door answers to the names of this host only, not to {host[:100]!r}")
        elif origin is None:
            await self.app(scope, receive, send)
        elif not self._is_allowed(origin, host):
            remedy = ": name it with --allow-origin" if self.admits_local_pages else ""
            await _refuse(send, f"pages of {origin[:100]!r} may not ask here{remedy}")
        elif scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await _answer(send, 204, _preflight(origin, headers), b"")
        else:
            await self.app(scope, receive, _naming(send, _cors(origin)))

    def _is_allowed(self, origin: str, host: str) -> bool:
        if self.admits_local_pages:
            return is_allowed_origin(origin, self.origins) or _is_own(origin, host)
        return _is_own(origin, host)


def _is_own(origin: str, host: str) -> bool:
    """Whether the page came from this very door."""
    return bool(host) and origin.partition("://")[2] == host and bool(host_name(host))


def _cors(origin: str) -> RawHeaders:
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", b"x-request-id, x-meshd-node, x-meshd-mode, retry-after"),
        (b"vary", b"Origin"),
    ]


def _preflight(origin: str, headers: dict[str, str]) -> RawHeaders:
    asked = headers.get("access-control-request-headers", "")
    answer = [
        *_cors(origin),
        (b"access-control-allow-methods", b"GET, POST, DELETE"),
        (b"access-control-allow-headers", asked.encode("latin-1")),
        (b"access-control-max-age", PREFLIGHT_S.encode()),
    ]
    if headers.get("access-control-request-private-network") == "true":
        answer.append((b"access-control-allow-private-network", b"true"))
    return answer


def _naming(send: Send, added: RawHeaders) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return with_headers


async def _refuse(send: Send, why: str) -> None:
    error = {"message": why, "type": "invalid_request_error", "param": None, "code": "forbidden_origin"}
    head = [(b"content-type", b"application/json"), (b"vary", b"Origin")]
    await _answer(send, 403, head, json.dumps({"error": error}).encode())


async def _answer(send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
    length = [] if status == 204 else [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": body})
