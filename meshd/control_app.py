"""What answers at the control door: each command's object as JSON, for this user only. Asking is `meshd.control`'s."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from meshd.control import Command, CommandFailed

MAX_COMMAND_BYTES = 64 << 10


def control_app(commands: dict[str, Command], others: Sequence[Route] = ()) -> Starlette:
    """An app that answers `POST /NAME` with each command's object, or 409 with `{"error": …}`. others: no JSON."""

    def route(name: str, command: Command) -> Route:
        async def answer(request: Request) -> Response:
            try:
                arguments = await command_arguments(request)
                return JSONResponse(await command(arguments))
            except CommandFailed as failure:
                return JSONResponse({"error": str(failure)}, status_code=409)

        return Route(f"/{name}", answer, methods=["POST"])

    return Starlette(routes=[*(route(name, command) for name, command in commands.items()), *others])


async def command_arguments(request: Request) -> dict[str, Any]:
    """The JSON object of a command. Raises CommandFailed."""
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MAX_COMMAND_BYTES:
        raise CommandFailed("the command is too large")
    try:
        arguments = json.loads(await request.body() or b"{}")
    except ValueError:
        raise CommandFailed("the command is not JSON") from None
    if not isinstance(arguments, dict):
        raise CommandFailed("expected a JSON object")
    return arguments
