"""Web pages that nobody named are kept out before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from meshd.origin_guard import OriginGuard


class Inner:
    """Counts what gets through."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
        await send({"type": "http.response.body", "body": b"done"})


async def ask(guard: OriginGuard, method: str = "POST", **headers: str) -> tuple[int, dict[str, str]]:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("a guard reads no body")

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await guard({"type": "http", "method": method, "path": "/v1/x", "headers": raw}, receive, send)
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


@pytest.mark.parametrize("host", ["127.0.0.1:9337", "localhost", "[::1]:9337"])
async def test_programs_of_this_host_pass_untouched(host: str) -> None:
    inner = Inner()
    status, headers = await ask(OriginGuard(inner), host=host)
    assert (status, headers, inner.asked) == (200, {"x-own": "1"}, 1)


@pytest.mark.parametrize("host", ["evil.example:9337", "", "localhost.evil.example", "127.0.0.1.evil.example"])
async def test_a_foreign_host_on_loopback_is_refused_before_anything_runs(host: str) -> None:
    inner = Inner()
    assert (await ask(OriginGuard(inner), host=host))[0] == 403
    assert inner.asked == 0


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "http://localhost.evil.example", "file://x"])
async def test_pages_elsewhere_are_refused_also_in_a_preflight(origin: str) -> None:
    inner = Inner()
    guard = OriginGuard(inner, ("https://mine.example",))
    for method in ("POST", "GET", "OPTIONS"):
        status, headers = await ask(
            guard, method, host="localhost", origin=origin, access_control_request_method="POST"
        )
        assert status == 403
        assert "access-control-allow-origin" not in headers
    assert inner.asked == 0


@pytest.mark.parametrize("origin", ["http://localhost:3000", "https://127.0.0.1", "https://mine.example"])
async def test_pages_of_this_host_and_named_ones_may_ask(origin: str) -> None:
    guard = OriginGuard(Inner(), ("https://mine.example",))
    status, headers = await ask(guard, host="localhost", origin=origin)
    assert (status, headers["access-control-allow-origin"], headers["vary"]) == (200, origin, "Origin")


async def test_a_door_on_the_network_answers_to_any_name_and_to_its_own_page() -> None:
    guard = OriginGuard(Inner(), is_local=False)
    assert (await ask(guard, host="gpu.lan:9337"))[0] == 200
    assert (await ask(guard, host="gpu.lan:9337", origin="http://gpu.lan:9337"))[0] == 200
    assert (await ask(guard, host="gpu.lan:9337", origin="http://gpu.lan"))[0] == 403


async def test_a_preflight_is_answered_without_asking_the_door() -> None:
    inner = Inner()
    status, headers = await ask(
        OriginGuard(inner),
        "OPTIONS",
        host="localhost",
        origin="http://localhost:8080",
        access_control_request_method="POST",
        access_control_request_headers="authorization, content-type",
        access_control_request_private_network="true",
    )
    assert (status, inner.asked) == (204, 0)
    assert headers["access-control-allow-headers"] == "authorization, content-type"
    assert headers["access-control-allow-private-network"] == "true"
