"""An engine that serves its model in whichever way the mesh allows now: alone, split, or later.

`layout` decides the way, `leader` brings a split about; here are the changes from one to the other, and what is shown
and refused meanwhile. A request is only ever answered by the llama-server of the way that stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol, assert_never

from llm.changes import Changes
from llm.engines.interface import EngineFailed, EngineState, EngineStatus, Launcher, Reply, Request
from llm.engines.llama_arguments import LlamaServerOptions
from llm.engines.llama_server import LlamaServerEngine
from llm.offer import OfferedPart
from llm.residency import Makeup, NoRoom
from llm.split.layout import Decision, Refuse, Solo, Split, Wait
from llm.split.leader import Leader, Means, SplitFailed, Undertaking
from transport.interface import NodeId

logger = logging.getLogger("meshd.llm")

RECONSIDER_S = 2.0
DRAIN_S = 30.0
UNWILLING_S = 20.0
LONGEST_UNWILLING_S = 600.0
"""How long a worker that would not take part is left out: twice as long after each refusal, for trying again takes the
model away from those who use it."""
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 15.0
STABLE_S = 60.0


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Another node serves or leads this model. reason: for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Way:
    """What is to be done now. term: of this node's claim, 0 without one.  note: added to what is shown."""

    decision: Decision | Elsewhere
    term: int = 0
    note: str = ""


class Mesh(Protocol):
    """What the mesh looks like from here, for one model."""

    async def means(self) -> Means:
        """What leading takes. Raises SplitFailed where this node cannot lead: its engine has no RPC."""

    def makeups(self, shares: tuple[float, ...] = ()) -> tuple[Makeup, ...]:
        """What the memory of each part is for, this node's first; one for all of it without shares."""

    def reserved(self, need_bytes: int, makeup: Makeup) -> AbstractContextManager[None]:
        """Hold so much of this host's memory for the model while the block lasts. Raises NoRoom."""

    async def way(self, left_out: frozenset[NodeId]) -> Way:
        """How the model is to be served now. left_out: workers that would not."""

    def successor(self) -> str:
        """Who is to lead the model in place of this node, in words; empty when nobody is."""

    async def changed(self) -> None:
        """Wait until anything that `way` looks at may differ."""


@dataclass(frozen=True, slots=True)
class PlacedModel:
    """resource: as it is claimed, now.  layers: of the model."""

    fingerprint: str
    layers: int
    resource: Callable[[], str]
    options: LlamaServerOptions


@dataclass(frozen=True, slots=True)
class _Unwilling:
    """A worker that would not take part. until: when it is asked again.  for_s: how long it is left out this time."""

    until: float
    for_s: float
    reason: str


class PlacedEngine:
    """An `Engine` on one llama-server after another."""

    kind = "llama_server"

    def __init__(self, model: PlacedModel, mesh: Mesh, launcher: Launcher) -> None:
        self._model = model
        self._mesh = mesh
        self._launcher = launcher
        self._changes = Changes()
        self._engine: LlamaServerEngine | None = None
        self._is_leaving = False
        self._unwilling: dict[NodeId, _Unwilling] = {}
        self._shown = EngineStatus(
            EngineState.STOPPED, "not started yet", 0, model.options.context_tokens, model.options.slots, 0.0
        )

    @property
    def status(self) -> EngineStatus:
        if self._engine is None:
            return self._shown
        status, shown = self._engine.status, self._shown
        note = f"; {shown.reason}" if shown.reason and status.state is EngineState.READY else ""
        return replace(status, reason=status.reason + note, mode=shown.mode, parts=shown.parts)

    @property
    def pid(self) -> int | None:
        """Of the llama-server, while one runs."""
        return self._engine.pid if self._engine is not None else None

    async def changed(self) -> None:
        await self._changes.wait()

    async def answer(self, request: Request) -> Reply:
        if self._engine is None or self._is_leaving:
            why = "it changes over to another way of serving" if self._is_leaving else self._shown.reason
            raise EngineFailed(f"model {self._model.options.name!r} cannot answer yet: {why}", retryable=True)
        return await self._engine.answer(request)

    async def run(self) -> None:
        try:
            while True:
                way = await self._way()
                match way.decision:
                    case Solo() | Split():
                        await self._serve(way)
                    case Wait(missing_bytes, reason):
                        await self._rest(EngineState.WAITING, reason, missing_bytes)
                    case Elsewhere(reason):
                        # Shown as a split, so that it can be elected to lead one.
                        await self._rest(EngineState.WAITING, reason, 0, mode_split=True)
                    case Refuse(reason):
                        await self._rest(EngineState.FAILED, reason, 0)
                    case _:
                        assert_never(way.decision)
        finally:
            self._show(EngineState.STOPPED, "stopped with the agent")

    # Ways

    async def _serve(self, way: Way) -> None:
        try:
            if isinstance(way.decision, Split):
                await self._serve_split(way.decision, way.term)
            else:
                await self._serve_alone(way)
        except NoRoom as error:
            await self._rest(EngineState.WAITING, f"no room on this node: {error}", 0, mode_split=True)

    async def _serve_alone(self, way: Way) -> None:
        """Serve here until another way is better."""
        assert isinstance(way.decision, Solo)
        self._show(EngineState.LOADING, way.note)
        engine = LlamaServerEngine(self._model.options, self._launcher)
        with self._mesh.reserved(way.decision.needed_bytes, self._mesh.makeups()[0]):
            async with self._running(engine):
                await self._until_better()

    async def _until_better(self) -> None:
        """Wait until another way is better than alone, and let what runs end."""
        while isinstance((now := await self._way()).decision, Solo):
            self._note(self._why_no_split() or now.note)
            await self._mesh_changed()
        await self._drain("another way takes over")

    async def _serve_split(self, split: Split, term: int) -> None:
        """Lead until the split breaks, or another way is better."""
        parts = tuple(OfferedPart(part.holder.node, _share(part.share, split)) for part in split.parts)
        self._show(EngineState.LOADING, "bringing a split together", parts=parts, mode_split=True)
        try:
            means = await self._mesh.means()
            what = Undertaking(
                self._model.resource(),
                term,
                self._model.fingerprint,
                self._model.layers,
                split,
                self._model.options,
                self._mesh.makeups(tuple(part.share for part in split.parts)),
            )
            leader = Leader(means, what, lambda words: self._show(EngineState.LOADING, words, parts, mode_split=True))
            with self._mesh.reserved(split.parts[0].needed_bytes, what.makeups[0]):
                async with leader.leading() as engine, self._running(engine):
                    self._note(_describe(split))
                    reason = await self._until_it_ends(leader, engine)
                    engine.end(f"the split ended: {reason}")
            logger.warning("the split of %s is over: %s", self._model.options.name, reason)
            self._show(EngineState.LOADING, f"the split ended: {reason}")
        except SplitFailed as error:
            logger.warning("no split of %s: %s", self._model.options.name, error)
            self._leave_out(error.workers)
            self._show(EngineState.WAITING, f"no split: {error}", mode_split=True)

    async def _until_it_ends(self, leader: Leader, engine: LlamaServerEngine) -> str:
        """Why the split has ended: what it stands on broke, or another node should serve."""
        async with asyncio.TaskGroup() as group:
            breaking = group.create_task(leader.watch(engine), name="watch the split")
            leaving = group.create_task(self._another_way(), name="watch for another way")
            await asyncio.wait({breaking, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not breaking.done():
                draining = group.create_task(self._drain(leaving.result()), name="drain")
                await asyncio.wait({breaking, draining}, return_when=asyncio.FIRST_COMPLETED)
                draining.cancel()
            leaving.cancel()
            breaking.cancel()
        return breaking.result() if not breaking.cancelled() else leaving.result()

    async def _another_way(self) -> str:
        """Wait until somebody else is to serve the model; who."""
        while not (successor := self._mesh.successor()):
            await self._mesh_changed()
        return successor

    @contextlib.asynccontextmanager
    async def _running(self, engine: LlamaServerEngine) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._follow(engine), name="follow engine"),  # first, or it misses the first change
                group.create_task(engine.run(), name="llama-server"),
            ]
            self._engine = engine
            try:
                yield
            finally:
                self._engine, self._is_leaving = None, False
                for task in tasks:
                    task.cancel()
                self._changes.notify()

    async def _follow(self, engine: LlamaServerEngine) -> None:
        while True:
            await engine.changed()
            self._changes.notify()

    async def _drain(self, reason: str) -> None:
        """Take no more requests and let those that run end, for at most DRAIN_S."""
        logger.info("model %s changes over: %s", self._model.options.name, reason)
        self._is_leaving = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                # llama-server tells nobody when it has answered.
                while self._engine is not None and self._engine.status.in_flight:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)

    async def _rest(self, state: EngineState, reason: str, missing_bytes: int, *, mode_split: bool = False) -> None:
        self._show(state, reason, missing_bytes=missing_bytes, mode_split=mode_split or missing_bytes > 0)
        await self._mesh_changed()

    async def _mesh_changed(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECONSIDER_S):
                await self._mesh.changed()

    async def _way(self) -> Way:
        now = asyncio.get_running_loop().time()
        left_out = frozenset(node for node, entry in self._unwilling.items() if entry.until > now)
        return await self._mesh.way(left_out)

    def _leave_out(self, workers: Mapping[NodeId, str]) -> None:
        now = asyncio.get_running_loop().time()
        for node, reason in workers.items():
            before = self._unwilling.get(node)
            for_s = min(2 * before.for_s, LONGEST_UNWILLING_S) if before is not None else UNWILLING_S
            self._unwilling[node] = _Unwilling(now + for_s, for_s, reason)

    def _why_no_split(self) -> str:
        """What those who are left out now have said; empty when nobody is."""
        now = asyncio.get_running_loop().time()
        reasons = sorted({entry.reason for entry in self._unwilling.values() if entry.until > now})
        return f"no split: {'; '.join(reasons)}" if reasons else ""

    def _note(self, note: str) -> None:
        if note != self._shown.reason:
            self._shown = replace(self._shown, reason=note)
            self._changes.notify()

    def _show(
        self,
        state: EngineState,
        reason: str,
        parts: tuple[OfferedPart, ...] = (),
        *,
        missing_bytes: int = 0,
        mode_split: bool = False,
    ) -> None:
        shown = replace(
            self._shown,
            state=state,
            reason=reason,
            parts=parts,
            missing_bytes=missing_bytes,
            mode="split" if mode_split or parts else "solo",
        )
        if shown != self._shown:
            self._shown = shown
            self._changes.notify()


def _share(share: float, split: Split) -> float:
    return round(share / sum(part.share for part in split.parts), 4)


def _describe(split: Split) -> str:
    parts = ", ".join(f"{part.holder.name} {_share(part.share, split):.2f}" for part in split.parts)
    return f"split: {parts}"
