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

from forms.computed import Computed
from forms.errors import BeyondLimit, FormFailed
from forms.evaluate import error_frame, error_line
from forms.form import FRAME_LIMIT
from forms.operations import Operations
from forms.request import Request
from forms.session import Session
from gossip.view import View
from meshd.control import Command
from meshd.form_status import cost_rows, decision_rows
from meshd.http_exchange import BodyTooLarge, ClientLeft, read_body

CALL_PATH = "/form_call"
LONGEST_CALL_S = 600.0


@dataclass(frozen=True, slots=True)
class FormCommands:
    """view: the mesh as it is now."""

    operations: Operations
    session: Session
    view: Callable[[], View]

    def table(self) -> dict[str, Command]:
        """Every command by its name."""
        return {"form_costs": self._costs}

    def routes(self) -> list[Route]:
        """What is no JSON: `POST /form_call?on=PLACE`, without `on` to wherever it finishes first."""
        return [Route(CALL_PATH, self._call, methods=["POST"])]

    async def _costs(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {
            "costs": cost_rows(self.view(), self.session.here.costs.all),
            "calls": decision_rows(self.session.decisions),
        }

    async def _call(self, http: HttpRequest) -> Response:
        try:
            payload = await read_body(http.scope, http.receive, FRAME_LIMIT)
        except BodyTooLarge as error:
            return Response(error_line(BeyondLimit(str(error))), status_code=413)
        except ClientLeft:
            return Response(status_code=400)
        request = Request(payload.lstrip()[:1] == b"(", payload.strip() if payload.lstrip()[:1] == b"(" else payload)
        try:
            done = await self._answer(request, http.query_params.get("on", ""))
        except FormFailed as error:
            done = Computed(error_line(error) if request.is_text else error_frame(error))
        backend = done.backend.value if done.backend is not None else ""
        headers = {"x-meshd-backend": backend, "x-meshd-seconds": f"{done.seconds:.6f}"}
        return Response(done.reply, headers=headers, media_type="application/octet-stream")

    async def _answer(self, request: Request, on: str) -> Computed:
        place = self.session.find(on) if on else None
        if place is not None and not place.is_here:
            return await self.session.call(request, place, LONGEST_CALL_S)
        if place is not None or not self.session.here.form_of(request):
            return await self.operations.answer(request, LONGEST_CALL_S)
        return await self.session.bend(request, LONGEST_CALL_S)
