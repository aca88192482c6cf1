"""What the control door can be asked about forms: to run a call, here or there, and what calls cost.

A call is no JSON: it comes as it would on the wire door, text or frame, and so does its reply; this user needs no key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from forms.errors import BeyondLimit
from forms.evaluate import error_line
from forms.form import FRAME_LIMIT
from forms.http_door import ID_HEADER
from forms.request import Request
from gossip.view import View
from meshd.bender import Bender
from meshd.control import Command
from meshd.form_status import cost_rows, decision_rows
from meshd.http_exchange import BodyTooLarge, ClientLeft, read_body
from meshd.logs import following

CALL_PATH = "/form_call"
LONGEST_CALL_S = 600.0


@dataclass(frozen=True, slots=True)
class FormCommands:
    """view: the mesh as it is now."""

    bender: Bender
    view: Callable[[], View]

    def table(self) -> dict[str, Command]:
        """Every command by its name."""
        return {"form_costs": self._costs}

    def routes(self) -> list[Route]:
        """What is no JSON: `POST /form_call?on=PLACE`, without `on` to wherever it finishes first."""
        return [Route(CALL_PATH, self._call, methods=["POST"])]

    async def _costs(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {
            "costs": cost_rows(self.view(), self.bender.session.here.costs.all),
            "calls": decision_rows(self.bender.session.decisions),
        }

    async def _call(self, http: HttpRequest) -> Response:
        try:
            payload = await read_body(http.scope, http.receive, FRAME_LIMIT)
        except BodyTooLarge as error:
            return Response(error_line(BeyondLimit(str(error))), status_code=413)
        except ClientLeft:
            return Response(status_code=400)
        request = Request(payload.lstrip()[:1] == b"(", payload.strip() if payload.lstrip()[:1] == b"(" else payload)
        with following(http.headers.get(ID_HEADER, "")) as request_id:
            bent = await self.bender.answer(request, http.query_params.get("on", ""), LONGEST_CALL_S)
        headers = bent.headers | {ID_HEADER: request_id}
        return Response(bent.done.reply, headers=headers, media_type="application/octet-stream")
