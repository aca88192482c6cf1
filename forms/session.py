"""Runs a call where it finishes first: `outlook` knows the places, `choice` ranks them; here calls go there.

A place that fails is left for a while and the call goes to the next one. What a call costs is learnt by the node that
computes it, what carrying takes by this one. `spread` runs many calls at once by the same means.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from forms.backend import Backend
from forms.choice import Choice, Decision, Option, Shape, rank
from forms.computed import Computed
from forms.cost import Cost, Spent
from forms.errors import Busy, FormFailed, NotFound, UnknownOperation, WorkerLost
from forms.foreign import ForeignWorker, ask_foreign, is_unknown_operation, probe_foreign
from forms.here import Here
from forms.outlook import Mine, Outlook
from forms.places import HERE, Place, find_place, place_name
from forms.request import Request, replied
from forms.shape import MOST_READ_BYTES, SMALL_BYTES, TEXT_BYTES_PER_BYTE, CountOperations, shape_of
from forms.there import Errand, ask, ask_to_measure
from gossip.view import NodeView, View
from transport.interface import Address, Transport

logger = logging.getLogger("meshd.forms")

MOST_PLACES_TRIED = 3
KEPT_DECISIONS = 512
MOST_FAVOURS = 64
"""Questions to other places that wait to be asked; more are left out, and come up again."""
PROBE_DEADLINE_S = 30.0


Tell = Callable[[Decision], None]


def tell_nobody(decision: Decision) -> None:
    """For callers who need not know."""


def no_operations(name: str) -> int:
    """For a node without circuits."""
    raise NotFound(f"no circuit {name!r} is here")


@dataclass(slots=True)
class Session:
    """A node's calls that may run anywhere. operations: how many a circuit has; called in a thread as well.

    keys: of foreign workers that want one.  request_id: of the call that the current task works for, to follow it by.
    """

    here: Here
    transport: Transport
    see: Callable[[], View]
    outlook: Outlook = field(default_factory=Outlook)
    operations: CountOperations = no_operations
    keys: Mapping[Address, str] = field(default_factory=dict, repr=False)
    clock: Callable[[], float] = time.monotonic
    request_id: Callable[[], str] = str
    decisions: deque[Decision] = field(default_factory=lambda: deque(maxlen=KEPT_DECISIONS))
    _is_asking: bool = False
    _favours: asyncio.Queue[tuple[Place, str]] = field(default_factory=lambda: asyncio.Queue(MOST_FAVOURS))

    async def bend(self, request: Request, deadline_s: float, tell: Tell = tell_nobody) -> Computed:
        """The reply to a form's call, from where it finishes first. Raises UnknownOperation, Busy, WorkerLost.

        tell: told of each place that was tried, with what was predicted; of nothing where no other node could do it.
        """
        form = self._form_of(request)
        self.look_around(form)
        shape = await self.shape(form, request)
        if shape is None:
            return await self.here.compute(request, deadline_s)
        return await self._first_reply(request, shape, deadline_s, tell)

    async def call(self, request: Request, place: Place, deadline_s: float) -> Computed:
        """The reply from that place and no other. Raises UnknownOperation, Busy, WorkerLost, NotFound."""
        form = self.here.form_of(request)
        shape = await self.shape(form, request, is_needed=place.address is not None) if form else None
        options = self.options(shape) if shape is not None else []
        began = self.clock()
        done = await self.run_at(place, request, shape, deadline_s)
        for option in options:
            if option.target == place and shape is not None:
                self._learn(option, shape, done, began)
        return done

    def find(self, word: str) -> Place:
        """The place that a person means. Raises NotFound."""
        place = find_place(word, self.see(), self.outlook.foreign)
        if place is None:
            raise NotFound(f"no node or worker {word!r} is known here; `meshd status` shows the nodes")
        return place

    def name(self, place: Place) -> str:
        """What people call a place."""
        return place_name(place, self.see())

    # What is known before

    async def shape(self, form: str, request: Request, *, is_needed: bool = False) -> Shape | None:
        """What the call is like; None where it cannot be read, or nobody but this node could compute it.

        is_needed: read it also then.
        """
        if not is_needed and not self.outlook.has_rivals(form, self.see(), self.clock()):
            return None
        size = len(request.payload)
        if request.is_text and size > MOST_READ_BYTES:
            work = self.here.costs.work_of_bytes(form, size, is_text=True)
            return None if work is None else Shape(form, True, work, size, int(size * TEXT_BYTES_PER_BYTE))
        try:
            await self.here.bring_for(form, request)
            if size <= SMALL_BYTES and self.here.catalogue.find(form) is not None:
                return shape_of(self.here.catalogue, request, self.operations)
            return await asyncio.to_thread(shape_of, self.here.catalogue, request, self.operations)
        except (FormFailed, OSError):
            return None  # whoever computes it says what is wrong with it

    def options(self, shape: Shape) -> list[Option[Place]]:
        """The places that such a call may go to, as `outlook` has them."""
        mine = Mine(self._own_cost(shape), self.here.costs.current, self.here.queue_s)
        return self.outlook.options(shape, mine, self.see(), self.clock())

    def _choices(self, shape: Shape, options: Sequence[Option[Place]]) -> list[Choice[Place]]:
        if self.outlook.are_down(options, self.clock()):
            return [Choice(option.target, None) for option in options]
        if self._own_cost(shape) is None and any(option.target.is_here for option in options):
            # Nobody knows yet what it takes here, so nothing can be compared: find out.
            return [Choice(HERE, None)]
        return rank(shape, options)

    def look_around(self, form: str) -> None:
        """Have places find out what they cost where nobody knows, this one too; nobody waits for it."""
        self.here.measure_soon()
        now = self.clock()
        wanted = [Place(node=entry.node) for entry in self.outlook.unmeasured(self.see(), now)]
        for place in [*wanted, *self.outlook.unprobed(form, now)]:
            with suppress(asyncio.QueueFull):
                self._favours.put_nowait((place, form))

    def _own_cost(self, shape: Shape) -> Cost | None:
        costs = self.here.costs
        return costs.cost(shape.form, is_text=shape.is_text) or costs.cost(shape.form, is_text=not shape.is_text)

    def _form_of(self, request: Request) -> str:
        form = self.here.form_of(request)
        if not form:
            raise UnknownOperation(request.head)
        return form

    # Running

    async def _first_reply(self, request: Request, shape: Shape, deadline_s: float, tell: Tell) -> Computed:
        options = self.options(shape)
        choices, known = self._choices(shape, options), {option.target: option for option in options}
        failure: FormFailed = WorkerLost("no place could compute this call")
        for choice in choices[:MOST_PLACES_TRIED]:
            began, actual_s = self.clock(), None
            try:
                done = await self.run_at(choice.target, request, shape, deadline_s)
                actual_s = self.clock() - began
                self._learn(known[choice.target], shape, done, began)
                return done
            except (Busy, WorkerLost, UnknownOperation) as error:
                logger.info("a call of %s did not run at %s: %s", shape.form, self.name(choice.target), error)
                failure = error
            finally:
                others = {self.name(one.target): one.finish_s for one in choices if one is not choice}
                decision = Decision(shape, self.name(choice.target), choice.finish_s, others, actual_s)
                self.decisions.append(decision)
                self.here.observer.decided(decision)
                tell(decision)
        raise failure

    def _learn(self, option: Option[Place], shape: Shape, done: Computed, began: float) -> None:
        """What this call took is held against what was said; an error, and a worker that had to start, say nothing."""
        if not done.is_error and not done.is_cold:
            now = self.clock()
            self.outlook.took(option, shape, now - began, now)

    async def run_at(self, place: Place, request: Request, shape: Shape | None, deadline_s: float) -> Computed:
        """The reply from `place`. Raises Busy, WorkerLost, UnknownOperation; who fails is left for a while."""
        if place.is_here:
            return await self._at_home(request, deadline_s)
        number = self.outlook.begun(place, self._computing_s(place, shape), self.clock())
        try:
            if place.node is not None:
                return await self._at_node(place, request, shape, deadline_s)
            return await self._at_foreign(place, request, shape, deadline_s)
        except WorkerLost:
            self.outlook.failed(place, self.clock())
            raise
        except UnknownOperation:
            self.outlook.lacks(place, self.here.form_of(request), self.clock())
            raise
        finally:
            self.outlook.ended(place, number, self.clock())

    async def _at_home(self, request: Request, deadline_s: float) -> Computed:
        try:
            done = await self.here.compute(request, deadline_s)
        except WorkerLost:
            self.outlook.failed(HERE, self.clock())
            raise
        self.outlook.health.note_ok(HERE, self.clock())
        return done

    def _computing_s(self, place: Place, shape: Shape | None) -> float:
        """What a call should take there, without carrying and waiting."""
        if shape is None:
            return 0.0
        cost = next((one.cost for one in self.options(shape) if one.target == place), None)
        return cost.line.at(shape.work) if cost is not None else 0.0

    async def _at_node(self, place: Place, request: Request, shape: Shape | None, deadline_s: float) -> Computed:
        entry = self._entry(place)
        reply_bytes = shape.bytes_out if shape is not None else 0
        errand = Errand(entry.node, entry.name, request, deadline_s, self.request_id(), reply_bytes)
        answered = await ask(self.transport, errand)
        if answered.done.is_error and is_unknown_operation(answered.done.reply):
            raise UnknownOperation(request.head)
        self.outlook.answered(entry, answered.carried, answered.queue_s, self.clock())
        return answered.done

    def _entry(self, place: Place) -> NodeView:
        entry = self.see().get(place.node) if place.node is not None else None
        if entry is None:
            raise WorkerLost("the node has left the mesh")
        return entry

    async def _at_foreign(self, place: Place, request: Request, shape: Shape | None, deadline_s: float) -> Computed:
        if shape is None and not request.is_text:
            raise NotFound("a frame that cannot be read stays here: nobody could tell where its reply ends")
        began = self.clock()
        reply = await ask_foreign(self._worker(place), request, shape.bytes_out if shape else 0, deadline_s)
        seconds = self.clock() - began
        if shape is None or not replied(reply):
            return Computed(reply)
        spent = Spent(shape.form, request.is_text, "foreign", shape.work, seconds, len(request.payload))
        self.outlook.answered_foreign(place, spent, self.clock())
        return Computed(reply, shape.form, Backend.REFERENCE, shape.work, seconds)

    def _worker(self, place: Place) -> ForeignWorker:
        assert place.address is not None
        return ForeignWorker(place.address, self.keys.get(place.address, ""))

    # What goes on beside the calls

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being asked of other places."""
        return not self._is_asking and self._favours.empty()

    async def run(self) -> None:
        """Ask other places what they cost, one after the other, until cancelled."""
        while True:
            place, form = await self._favours.get()
            self._is_asking = True
            if place.node is not None:
                await ask_to_measure(self.transport, place.node)
            else:
                await self._probe_foreign(place, form)
            self._is_asking = False

    async def _probe_foreign(self, place: Place, form: str) -> None:
        try:
            self.outlook.said_well(place, await probe_foreign(self._worker(place)), self.clock())
            for probe in self._probes_for(place, form):
                await self.call(probe, place, PROBE_DEADLINE_S)
        except WorkerLost as error:
            self.outlook.failed(place, self.clock())
            logger.info("%s", error)
        except FormFailed as error:
            logger.info("%s does not compute %s: %s", self.name(place), form, error)

    def _probes_for(self, place: Place, form: str) -> list[Request]:
        """Calls of the form that show what it costs there, where that is not known."""
        probes = [probe for probe in self.here.probes(self.here.catalogue) if self.here.form_of(probe) == form]
        return [probe for probe in probes if not self.outlook.knows_cost(place, form, is_text=probe.is_text)]
