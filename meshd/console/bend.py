"""The console's bend panel: runs a call, and says where it ran and why there."""

from __future__ import annotations

from dataclasses import dataclass

from forms.bend_text import calls_in, is_bend
from forms.choice import Decision
from forms.computed import Computed
from forms.errors import FormFailed
from forms.evaluate import error_line
from forms.operations import Operations
from forms.request import Request
from forms.session import Session

DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class Bent:
    """place: the node that computed the reply.  why: in words; both empty where nothing was computed."""

    reply: bytes
    place: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class BendPanel:
    """name: this node's."""

    operations: Operations
    session: Session
    name: str

    async def answer(self, datum: bytes) -> Bent:
        """The reply to one datum of text; what is wrong with it is a reply."""
        told: list[Decision] = []
        try:
            done = await self._run(datum.strip(), told)
        except FormFailed as error:
            return Bent(error_line(error))
        if told:
            return Bent(done.reply, told[-1].place, why(told[-1]))
        return Bent(done.reply, "" if done.is_error else self.name, "" if done.is_error else "asked for here")

    async def _run(self, datum: bytes, told: list[Decision]) -> Computed:
        calls = calls_in(datum) if is_bend(datum) else []
        if len(calls) == 1:
            call = Request(True, calls[0])
            if self.session.here.form_of(call):
                return await self.session.bend(call, DEADLINE_S, told.append)
        return await self.operations.answer(Request(True, datum), DEADLINE_S)


def why(decision: Decision) -> str:
    """Why a call ran where it did, in words. Pure."""
    if decision.predicted_s is None:
        return "nobody knew yet what it takes"
    others = [f"{name} {_milliseconds(seconds)}" for name, seconds in decision.others.items()]
    against = f", against {', '.join(others)}" if others else ""
    return f"{_milliseconds(decision.predicted_s)} predicted{against}"


def _milliseconds(seconds: float | None) -> str:
    return "of which nothing is known" if seconds is None else f"{seconds * 1000:.1f} ms"
