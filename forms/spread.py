"""Runs many calls on many places at once: performs what `fan_out` decides, by a session's means."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from forms.choice import Option, Shape, predict
from forms.computed import Computed
from forms.errors import Busy, FormFailed, UnknownOperation, WorkerLost
from forms.fan_out import Effect, FanOut, GiveUp, Run, Stop
from forms.places import HERE, Place
from forms.request import Request
from forms.session import Session
from forms.ways import is_bulk

UNKNOWN_S = 0.05
LACKING_S = 1000.0
"""For a place that does not have the form, or a call that nobody could read: so that it is the last to be tried."""

Fate = Computed | FormFailed
"""Of one call. A failure is one that no place could help."""


@dataclass(frozen=True, slots=True)
class _Ended:
    number: int
    fate: Fate


async def spread(session: Session, requests: Sequence[Request], deadline_s: float) -> list[Fate]:
    """The fate of every call, in their order, wherever each ran; a call that fails takes no other with it."""
    fates: dict[int, Fate] = {
        place: UnknownOperation(request.head)
        for place, request in enumerate(requests)
        if not session.here.form_of(request)
    }
    known = [place for place in range(len(requests)) if place not in fates]
    found = await _spread(session, [requests[place] for place in known], deadline_s)
    fates |= dict(zip(known, found, strict=True))
    return [fates[place] for place in range(len(requests))]


async def _spread(session: Session, requests: Sequence[Request], deadline_s: float) -> list[Fate]:
    shapes = [await _shape(session, request) for request in requests]
    outlook = _Expected(session)
    places = outlook.places(shapes)
    seconds = [outlook.seconds(shape, places) for shape in shapes]
    work = _Spreading(session, requests, shapes, places, FanOut(seconds, len(places)), deadline_s)
    late = Busy(f"no reply within {deadline_s:g} s")
    with suppress(TimeoutError):
        async with asyncio.timeout(deadline_s):
            await work.run()
    return [work.fates.get(job, late) for job in range(len(requests))]


async def _shape(session: Session, request: Request) -> Shape | None:
    form = session.here.form_of(request)
    session.look_around(form)
    return await session.shape(form, request)


@dataclass(slots=True)
class _Expected:
    """What is known of the places for calls of one kind, looked up once."""

    session: Session
    _options: dict[tuple[str, bool, bool, int], dict[Place, Option[Place]]] = field(default_factory=dict)

    def places(self, shapes: Sequence[Shape | None]) -> list[Place]:
        """Every place that may compute one of the calls; where nothing is known, this one."""
        found = {place: None for shape in shapes if shape is not None for place in self._of(shape)}
        return list(found) or [HERE]

    def seconds(self, shape: Shape | None, places: Sequence[Place]) -> list[float]:
        """Of a call at each place. Unknown costs are taken to be alike; the fan-out learns how places differ."""
        if shape is None:
            return [UNKNOWN_S if place.is_here else LACKING_S for place in places]
        options = self._of(shape)
        return [(predict(shape, options[place]) or UNKNOWN_S) if place in options else LACKING_S for place in places]

    def _of(self, shape: Shape) -> dict[Place, Option[Place]]:
        key = shape.form, shape.is_text, is_bulk(shape.bytes_in, shape.bytes_out), shape.octave
        if key not in self._options:
            self._options[key] = {option.target: option for option in self.session.options(shape)}
        return self._options[key]


@dataclass(slots=True)
class _Spreading:
    session: Session
    requests: Sequence[Request]
    shapes: Sequence[Shape | None]
    places: Sequence[Place]
    fan_out: FanOut
    deadline_s: float
    fates: dict[int, Fate] = field(default_factory=dict)
    _running: dict[int, tuple[Run, asyncio.Task[None]]] = field(default_factory=dict)
    _ended: asyncio.Queue[_Ended] = field(default_factory=asyncio.Queue)
    """As many as there are tries, which are bounded by the calls."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            try:
                self._perform(self.fan_out.tick(self._now()), group)
                while not self.fan_out.is_over:
                    self._perform(await self._next(), group)
            finally:
                for _, task in self._running.values():
                    task.cancel()

    async def _next(self) -> list[Effect]:
        """What follows from the next thing that happens."""
        tick = self.fan_out.next_tick
        try:
            async with asyncio.timeout(None if tick is None else max(0.0, tick - self._now())):
                ended = await self._ended.get()
        except TimeoutError:
            return self.fan_out.tick(self._now())
        run, _ = self._running.pop(ended.number, (None, None))
        if run is None:
            return []
        if isinstance(ended.fate, Computed):
            self.fates[run.job] = ended.fate
            return self.fan_out.finished(ended.number, self._now())
        self.fates.setdefault(run.job, ended.fate)
        is_node_well = not isinstance(ended.fate, Busy | WorkerLost)
        return self.fan_out.failed(ended.number, self._now(), is_node_well=is_node_well)

    def _perform(self, effects: list[Effect], group: asyncio.TaskGroup) -> None:
        for effect in effects:
            match effect:
                case Run():
                    task = group.create_task(self._try(effect), name=f"call {effect.job} of a fan-out")
                    self._running[effect.number] = (effect, task)
                case Stop(number):
                    if number in self._running:
                        self._running.pop(number)[1].cancel()
                case GiveUp():
                    pass  # its fate is the last failure

    async def _try(self, run: Run) -> None:
        request, shape = self.requests[run.job], self.shapes[run.job]
        try:
            fate: Fate = await self.session.run_at(self.places[run.node], request, shape, self.deadline_s)
        except FormFailed as error:
            fate = error
        self._ended.put_nowait(_Ended(run.number, fate))

    def _now(self) -> float:
        return self.session.clock()
