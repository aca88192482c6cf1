"""One dispatcher behind every door: what a request is, and who answers it.

The small operations are answered here; forms go to the worker as they came, so that the agent reads neither their
text nor their frames. What a caller wants run wherever it finishes first is the session's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forms.arguments import check_reply
from forms.bend_text import calls_in, is_bend
from forms.catalogue import Catalogue
from forms.computed import Computed
from forms.datum import Datum, Spliced, Symbol
from forms.errors import BadArgument, BadSyntax, Busy, FormFailed, UnknownOperation, WorkerLost
from forms.evaluate import error_frame, error_line, head_of, ok_line
from forms.form import FRAME_LIMIT
from forms.here import Here
from forms.reader import read_datum
from forms.request import Request
from forms.session import Session
from forms.shape import SMALL_BYTES
from forms.spread import Fate, spread
from forms.survey.entries import Entry, entries_of
from forms.text_framing import decode_text

CALL_DEADLINE_S = 600.0


@dataclass(frozen=True, slots=True)
class Health:
    """What `(health)` answers. vram_free_mb: 0 without an NVIDIA GPU.  uptime_ms: wall-clock milliseconds, as the page
    that defined it has it.
    """

    load_avg: float
    vram_free_mb: int
    uptime_ms: int


@dataclass(frozen=True, slots=True)
class Operations:
    """What this node answers. health: now.  session: finds the place for `bend`; None: that is here."""

    here: Here
    health: Callable[[], Health]
    session: Session | None = None

    @property
    def catalogue(self) -> Catalogue:
        """The forms with frames."""
        return self.here.catalogue

    @property
    def queue_s(self) -> float:
        """How long a call would wait now."""
        return self.here.queue_s

    def measure_soon(self) -> None:
        """Somebody wants to know what forms cost here."""
        self.here.measure_soon()

    async def answer_text(self, request: bytes) -> bytes:
        """The reply to one datum, with its newline; errors are replies."""
        try:
            return (await self.answer(Request(True, request), CALL_DEADLINE_S)).reply
        except FormFailed as error:
            return error_line(error)

    async def answer_frame(self, frame: bytes) -> bytes:
        """The reply to a whole frame; errors are replies."""
        try:
            return (await self.answer(Request(False, frame), CALL_DEADLINE_S)).reply
        except FormFailed as error:
            return error_frame(error)

    async def bend_frame(self, frame: bytes) -> bytes:
        """The reply to a whole frame, from where it finishes first; errors are replies."""
        try:
            return (await self._bend(Request(False, frame), CALL_DEADLINE_S)).reply
        except FormFailed as error:
            return error_frame(error)

    async def answer(self, request: Request, deadline_s: float) -> Computed:
        """The reply, with what is known of its cost. Raises FormFailed where this node did not compute it.

        What is wrong with the request itself is a reply.
        """
        try:
            if request.is_text and is_bend(request.payload):
                return await self._bend_text(request.payload, deadline_s)
            if self.here.form_of(request):
                return await self.here.compute(request, deadline_s)
            return Computed(self._answer_small(request.payload))
        except (Busy, WorkerLost):
            raise
        except FormFailed as error:
            return Computed(error_line(error) if request.is_text else error_frame(error))

    async def _bend_text(self, payload: bytes, deadline_s: float) -> Computed:
        """`(bend CALL)` replies as the call does; `(bend CALL CALL …)` with a list of what each would have replied."""
        calls = calls_in(payload) if len(payload) <= SMALL_BYTES else await asyncio.to_thread(calls_in, payload)
        requests = [Request(True, call) for call in calls]
        match requests:
            case []:
                raise BadSyntax("bend: expected a form's call")
            case [request]:
                return await self._bend(request, deadline_s)
        fates = await self._spread(requests, deadline_s)
        replies = [fate.reply if isinstance(fate, Computed) else error_line(fate) for fate in fates]
        joined = b"(ok (" + b" ".join(reply.rstrip() for reply in replies) + b"))\n"
        check_reply(len(joined), FRAME_LIMIT)
        return Computed(joined)

    async def _bend(self, request: Request, deadline_s: float) -> Computed:
        if not self.here.form_of(request):
            raise UnknownOperation(request.head)
        if self.session is None:
            return await self.here.compute(request, deadline_s)
        return await self.session.bend(request, deadline_s)

    async def _spread(self, requests: Sequence[Request], deadline_s: float) -> Sequence[Fate]:
        if self.session is not None:
            return await spread(self.session, requests, deadline_s)
        return [await self._alone(request, deadline_s) for request in requests]

    async def _alone(self, request: Request, deadline_s: float) -> Fate:
        try:
            return await self._bend(request, deadline_s)
        except FormFailed as error:
            return error

    def _answer_small(self, request: bytes) -> bytes:
        name, arguments = head_of(read_datum(decode_text(request)))
        match name:
            case "ping":
                return ok_line(Symbol("pong"))
            case "echo":
                if len(arguments) != 1:
                    raise BadArgument(f"echo: expected 1 argument, got {len(arguments)}")
                return ok_line(arguments[0])
            case "health":
                return ok_line(_pairs(self.health()))
            case "forms":
                return ok_line([_listed(entry) for entry in entries_of(self.catalogue)])
            case _:
                raise UnknownOperation(name)


def _pairs(health: Health) -> Datum:
    return Spliced(
        [
            [Symbol("load-avg"), round(float(health.load_avg), 2)],
            [Symbol("vram-free-mb"), health.vram_free_mb],
            [Symbol("uptime-ms"), health.uptime_ms],
        ]
    )


def _listed(entry: Entry) -> Datum:
    return [
        [Symbol("name"), entry.name],
        [Symbol("status"), Symbol(entry.status.value)],
        [Symbol("frame"), Symbol(entry.magic) if entry.magic else []],
    ]
