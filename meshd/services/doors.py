"""What programs and people on this host talk to: the API, the console and the control socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from starlette.types import ASGIApp

from gossip.belief import Believe
from llm.client import Router
from meshd.api import Api
from meshd.bender import Bender
from meshd.bringer import Bringer
from meshd.console.door import ConsoleDoor
from meshd.control_app import control_app
from meshd.footing import Footing
from meshd.http_server import serve_http
from meshd.metrics.telemetry import Telemetry
from meshd.origin_guard import OriginGuard
from meshd.services.service import Service, merged
from meshd.status import Situation, build_health, build_models


def make_api(
    footing: Footing, bringer: Bringer, telemetry: Telemetry, situation: Callable[[], Situation], believe: Believe
) -> ASGIApp:
    """The OpenAI door's application; chats go to whatever host answers best, this one among them."""
    gossip = footing.gossip
    return Api(
        Router(footing.offering.host, footing.transport, gossip, gossip.hint, believe),
        footing.listeners.ingress,
        lambda: build_models(situation()),
        lambda: build_health(situation()),
        bringer.find,
        telemetry.requests,
    )


def api_door(footing: Footing, api: ASGIApp) -> Service:
    """The API, for programs of this host, and for others where `--listen` says so."""
    listeners, accepting = footing.listeners, asyncio.Event()
    guarded = OriginGuard(api, listeners.origins, listeners.is_local)
    return Service("api", lambda: {"api": serve_http(guarded, listeners.api, accepting)}, ready=[accepting])


def control_door(footing: Footing, services: Sequence[Service]) -> Service:
    """Every command of `services`, for this user only."""
    routes = [route for service in services for route in service.routes]
    app, accepting = control_app(merged(service.commands for service in services), routes), asyncio.Event()
    return Service(
        "control", lambda: {"control": serve_http(app, footing.listeners.control, accepting)}, ready=[accepting]
    )


def console(
    footing: Footing,
    services: Sequence[Service],
    api: ASGIApp,
    telemetry: Telemetry,
    situation: Callable[[], Situation],
    bender: Bender,
) -> Service:
    """The console, unless it is closed; of the commands of `services` it lets through those that a page may send."""
    listeners, offering = footing.listeners, footing.offering
    if listeners.console is None:
        return Service("console")
    door = ConsoleDoor(listeners.console, listeners.ingress, listeners.is_local)
    commands = merged(service.commands for service in services)
    waits = (offering.host.changed, offering.memory.changed, telemetry.activity.changes.wait)
    return Service("console", lambda: door.works(situation, telemetry, commands, api, waits, bender))
