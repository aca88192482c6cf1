"""Computes calls on this node: counts what waits, learns what calls cost, and says both to whoever asks.

The worker's process is `worker`'s, what is learnt is `cost`'s; here they meet. Forms are measured once after the worker
began, while nobody else wants it, so that other nodes know what this one would take.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from forms.backlog import Backlog
from forms.blob_names import BlobNames
from forms.catalogue import CIRCUIT_FORMS, Catalogue
from forms.computed import Computed
from forms.cost import CostBook
from forms.errors import FormFailed, UnknownOperation, WorkerLost
from forms.forms_fact import FormsFact, fact_of
from forms.observer import NoObserver, Observer
from forms.request import Request
from transport.blob_message import BlobDigest

logger = logging.getLogger("meshd.forms")

UNKNOWN_S = 0.05
"""What a call is taken to last of which nothing is known."""
MEASURE_DEADLINE_S = 60.0
MEASURE_AGAIN_S = 10.0
"""After a measurement that came to nothing."""


class Compute(Protocol):
    """What computes: `forms.workers.Workers`, or one worker."""

    async def compute(self, kind: int, request: bytes, deadline_s: float) -> Computed: ...


def bring_nothing(digests: Sequence[BlobDigest]) -> Awaitable[None]:
    """For a node whose blobs come by hand."""
    return asyncio.sleep(0)


@dataclass(slots=True)
class Here:
    """This node's forms. probes: calls that show what each form costs.  bring: has blobs here."""

    catalogue: Catalogue
    worker: Compute
    lanes: int = 1
    bring: Callable[[Sequence[BlobDigest]], Awaitable[None]] = bring_nothing
    probes: Callable[[Catalogue], Iterable[Request]] = lambda catalogue: ()
    clock: Callable[[], float] = time.monotonic
    costs: CostBook = field(default_factory=CostBook)
    observer: Observer = field(default_factory=NoObserver)
    _backlog: Backlog = field(init=False)
    _names: BlobNames = field(init=False)
    _is_wanted: asyncio.Event = field(default_factory=asyncio.Event)
    _is_measured: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._backlog = Backlog(self.lanes)
        self._names = BlobNames(self.catalogue)

    def form_of(self, request: Request) -> str:
        """The name of the form that is called; empty for any other operation. Raises UnknownOperation for a frame."""
        if not request.is_text:
            return self.catalogue.of_magic(request.payload[:4]).name
        name = request.head
        return name if name in CIRCUIT_FORMS or self.catalogue.find(name) is not None else ""

    async def compute(self, request: Request, deadline_s: float) -> Computed:
        """Compute a form's call; an error of the call itself is a reply. Raises Busy, WorkerLost, UnknownOperation …"""
        name = self.form_of(request)
        if not name:
            raise UnknownOperation(request.head)
        is_alone = not self.in_flight
        asked = self.clock()
        number = self._backlog.add(self.guess_s(name, request), asked)
        self._notify()
        done: Computed | None = None
        try:
            await self.bring_for(name, request)
            began = self.clock()
            done = await self._by_worker(request, deadline_s)
        finally:
            self._backlog.remove(number, self.clock())
            self.observer.computed(name, done, self.clock() - asked)
            self._notify()
        # What the way to the worker takes belongs to the cost, where it can be told from waiting.
        spent = replace(done, seconds=self.clock() - began) if is_alone else done
        self.costs.learn(spent, len(request.payload), is_text=request.is_text)
        self._is_wanted.set()
        return done

    async def bring_for(self, name: str, request: Request) -> None:
        """Have here what a call of that form names by digest. Raises FormFailed for one that cannot be read."""
        if self._names.takes_long(name, request):
            digests = await asyncio.to_thread(self._names.named, name, request)
        else:
            digests = self._names.named(name, request)
        if digests:
            await self.bring(digests)

    async def _by_worker(self, request: Request, deadline_s: float) -> Computed:
        try:
            return await self.worker.compute(request.kind, request.payload, deadline_s)
        except WorkerLost:
            self._is_measured = False  # the next one is cold
            raise

    @property
    def queue_s(self) -> float:
        """How long a call that comes now would wait."""
        return self._backlog.seconds(self.clock())

    @property
    def in_flight(self) -> int:
        """Calls that are begun and not answered."""
        return len(self._backlog)

    def guess_s(self, name: str, request: Request) -> float:
        """What a call should take, without reading it."""
        work = self.costs.work_of_bytes(name, len(request.payload), is_text=request.is_text)
        cost = self.costs.cost(name, is_text=request.is_text)
        return cost.line.at(work) if cost is not None and work is not None else UNKNOWN_S

    def fact(self) -> FormsFact:
        """What to tell the mesh."""
        return fact_of(self.costs.current, is_warm=self._is_measured, queue_s=self.queue_s)

    async def changed(self) -> None:
        """Wait for the next call that begins or ends."""
        await self._changed.wait()

    def measure_soon(self) -> None:
        """Somebody wants to know what forms cost here."""
        self._is_wanted.set()

    async def run(self) -> None:
        """Measure the forms once somebody calls them, until cancelled."""
        while True:
            await self._is_wanted.wait()
            if not self._is_measured:
                self._is_measured = await self._measure()
                self._notify()
            if not self._is_measured:
                await asyncio.sleep(MEASURE_AGAIN_S)
            self._is_wanted.clear()

    async def _measure(self) -> bool:
        """Whether it could be done to the end."""
        for probe in self.probes(self.catalogue):
            while self.in_flight:
                await self.changed()  # it is nobody's turn but theirs
            try:
                await self._try_out(probe)
            except FormFailed as error:
                logger.warning("what forms cost here is not known yet: %s", error)
                return False
        return True

    async def _try_out(self, probe: Request) -> None:
        """A call of our own, which others wait for as for any."""
        began = self.clock()
        number = self._backlog.add(UNKNOWN_S, began)
        try:
            done = await self._by_worker(probe, MEASURE_DEADLINE_S)
        finally:
            self._backlog.remove(number, self.clock())
            self._notify()
        spent = replace(done, seconds=self.clock() - began)
        self.costs.learn(spent, len(probe.payload), is_text=probe.is_text)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
