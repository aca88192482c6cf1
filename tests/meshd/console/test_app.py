"""Who may see and do what at the console's routes."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from forms.computed import Computed
from forms.request import Request
from meshd.bender import Bent
from meshd.console.app import ACTIONS, Parts, console_app
from meshd.console.feed import Feed
from meshd.control import CommandFailed
from meshd.ingress import Ingress, Networks, parse_networks
from meshd.keys import KeyRing, Limits
from meshd.origin_guard import OriginGuard

JSON = {"content-type": "application/json"}


async def echo(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"did": arguments}


async def refuse(arguments: dict[str, Any]) -> dict[str, Any]:
    raise CommandFailed("not now: do this instead")


async def api(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"api " + scope["path"].encode()})


async def bend(request: Request) -> Bent:
    return Bent(Computed(b"(ok " + request.payload + b")\n"), "far", "1.0 ms predicted")


def console(ring: KeyRing | None = None, bend: Callable[[Request], Awaitable[Bent]] | None = bend) -> TestClient:
    keys, registry = ring or KeyRing(), CollectorRegistry()
    Counter("meshd_tests", "Made by this test.", registry=registry).inc(3)
    ingress = Ingress(lambda: keys, lambda: 0.0, Networks(keyless=parse_networks(["10.0.0.0/8"], "")))
    commands = {"plan": echo, "token_create": echo, "leave": refuse, "rotate_root": echo}
    reads = {"status": lambda: {"node": "me"}}
    parts = Parts(ingress, reads, Feed({"status": lambda: 1}, []), commands, registry, api, bend)
    guarded = OriginGuard(console_app(parts), admits_local_pages=False)
    return TestClient(guarded, base_url="http://127.0.0.1:3131", client=("127.0.0.1", 5))


def ring() -> tuple[KeyRing, str, str]:
    keys, user = KeyRing().create("user", Limits(), bytes(32), 0.0)
    keys, admin = keys.create("admin", Limits(is_admin=True), bytes([1]) * 32, 0.0)
    return keys, user, admin


def test_without_keys_this_host_sees_and_does_everything_that_pages_may() -> None:
    client = console()
    assert client.get("/api/status").json() == {"node": "me"}
    assert client.post("/api/token_create", json={"uses": 2}).json() == {"did": {"uses": 2}}
    assert "meshd_tests_total 3.0" in client.get("/metrics").text
    assert client.get("/v1/models").text == "api /v1/models"
    bent = client.post("/api/bend", content=b"(ping)")
    assert (bent.text, bent.headers["x-meshd-node"]) == ("(ok (ping))\n", "far")


def test_what_only_the_command_line_may_do_has_no_route() -> None:
    assert "rotate_root" not in ACTIONS
    assert console().post("/api/rotate_root", json={}).status_code in (404, 405)


def test_a_command_that_fails_says_why() -> None:
    answer = console().post("/api/leave", json={})
    assert (answer.status_code, answer.json()) == (409, {"error": "not now: do this instead"})


def test_keys_open_reading_and_only_an_admins_key_acts() -> None:
    keys, user, admin = ring()
    client = console(keys)
    for path in ("/api/status", "/metrics", "/api/events"):
        assert client.get(path).status_code == 401, path
    as_user, as_admin = ({"authorization": f"Bearer {key}"} for key in (user, admin))
    assert client.get("/api/status", headers=as_user).status_code == 200
    assert client.post("/api/plan", json={}, headers=as_user).status_code == 200
    assert client.post("/api/token_create", json={}, headers=as_user).status_code == 403
    assert client.post("/api/token_create", json={}, headers=as_admin).status_code == 200
    assert client.post("/api/token_create", json={}).status_code == 401


def test_a_trusted_network_reads_without_a_key_and_does_not_act() -> None:
    keys, _, _ = ring()
    client = console(keys)
    trusted = TestClient(client.app, base_url="http://127.0.0.1:3131", client=("10.1.2.3", 5))
    assert trusted.get("/api/status").status_code == 200
    assert trusted.post("/api/token_create", json={}).status_code == 401


@pytest.mark.parametrize("origin", ["http://localhost:3000", "https://evil.example", "null"])
def test_no_other_page_acts_not_even_one_of_this_host(origin: str) -> None:
    client = console()
    assert client.post("/api/token_create", json={}, headers={"origin": origin}).status_code == 403
    own = {"origin": "http://127.0.0.1:3131"}
    assert client.post("/api/token_create", json={}, headers=own).status_code == 200


def test_a_foreign_host_is_refused() -> None:
    assert console().get("/api/status", headers={"host": "evil.example"}).status_code == 403


def test_commands_are_json_and_nothing_that_a_form_can_send() -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = console().post("/api/token_create", content=b"{}", headers={"content-type": content_type})
        assert answer.status_code == 409
    assert console().post("/api/token_create", content=b"[]", headers=JSON).status_code == 409
    assert console().post("/api/token_create", content=json.dumps({"a": "x" * 70_000}), headers=JSON).status_code == 409


def test_every_answer_says_what_a_page_may_load() -> None:
    for path in ("/", "/api/status", "/nothing"):
        policy = console().get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'self'")
        assert "unsafe" not in policy


def test_a_closed_bend_says_so() -> None:
    answer = console(bend=None).post("/api/bend", content=b"(ping)")
    assert (answer.status_code, "no forms" in answer.json()["error"]) == (409, True)
