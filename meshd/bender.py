"""Runs a form's call for a person, and says where it ran and why there."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from forms.bend_text import calls_in, is_bend
from forms.choice import Decision
from forms.computed import Computed
from forms.errors import FormFailed
from forms.evaluate import error_frame, error_line
from forms.operations import Operations
from forms.request import Request
from forms.session import Session

logger = logging.getLogger("meshd.bend")

DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class Bent:
    """place: the node that computed the reply.  why: in words; both empty where nothing was computed."""

    done: Computed
    place: str = ""
    why: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """What an HTTP answer tells beside the reply."""
        told = {"x-meshd-seconds": f"{self.done.seconds:.6f}"}
        if self.done.backend is not None:
            told |= {"x-meshd-backend": self.done.backend.value}
        return told | ({"x-meshd-node": self.place, "x-meshd-why": self.why} if self.place else {})


@dataclass(frozen=True, slots=True)
class Bender:
    """name: this node's."""

    operations: Operations
    session: Session
    name: str

    async def answer(self, request: Request, on: str = "", deadline_s: float = DEADLINE_S) -> Bent:
        """The reply, from `on` or from where it finishes first; what is wrong with the call is a reply."""
        told: list[Decision] = []
        try:
            bent = await self._at(request, on, deadline_s) if on else await self._anywhere(request, deadline_s, told)
            logger.info("a call of %d bytes ran on %s", len(request.payload), bent.place or self.name)
            return bent
        except FormFailed as error:
            return Bent(Computed(error_line(error) if request.is_text else error_frame(error)))

    async def _at(self, request: Request, on: str, deadline_s: float) -> Bent:
        place = self.session.find(on)
        if place.is_here:
            return self._here(await self.operations.answer(request, deadline_s))
        return Bent(await self.session.call(request, place, deadline_s), self.session.name(place), "asked for by name")

    async def _anywhere(self, request: Request, deadline_s: float, told: list[Decision]) -> Bent:
        call = _only_call(request)
        if not self.session.here.form_of(call):
            return self._here(await self.operations.answer(request, deadline_s))
        done = await self.session.bend(call, deadline_s, told.append)
        return Bent(done, told[-1].place, why(told[-1])) if told else self._here(done)

    def _here(self, done: Computed) -> Bent:
        return Bent(done) if done.is_error else Bent(done, self.name, "on this node")


def _only_call(request: Request) -> Request:
    """What stands in `(bend CALL)`; the request itself where it is another."""
    if not request.is_text or not is_bend(request.payload):
        return request
    calls = calls_in(request.payload)
    return Request(True, calls[0]) if len(calls) == 1 else request


def why(decision: Decision) -> str:
    """Why a call ran where it did, in words. Pure."""
    if decision.predicted_s is None:
        return "nobody knew yet what it takes"
    others = [f"{name} {_milliseconds(seconds)}" for name, seconds in decision.others.items()]
    against = f", against {', '.join(others)}" if others else ""
    return f"{_milliseconds(decision.predicted_s)} predicted{against}"


def _milliseconds(seconds: float | None) -> str:
    return "of which nothing is known" if seconds is None else f"{seconds * 1000:.1f} ms"
