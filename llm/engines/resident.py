"""Loads a model's engine when it is wanted and memory is there, and lets go of both when it is not.

`Residence` holds what shares the memory of one node, `ResidentEngine` is one of its models: an `Engine` whose
inner engine comes and goes. Requests wait for a load, told of its progress; who has to make room is `llm.residency`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from llm.changes import Changes
from llm.engines.interface import Engine, EngineFailed, EngineState, EngineStatus, Reply, Request
from llm.engines.watched_reply import WatchedReply
from llm.errors import RequestFailed
from llm.residency import UNKNOWN_MAKEUP, Loaded, Makeup, NoRoom, Policy, Reservation, idle_until, to_displace

logger = logging.getLogger("meshd.llm")

LOAD_DEADLINE_S = 300.0
OTHERS_PATIENCE_S = 5.0
"""For a model that waits for others to share it: electing its host takes a second or two, a node may never come."""
LOOK_AGAIN_S = 2.0
"""How often a model that lacks memory looks whether another program has given some back."""
UNLOAD_DEADLINE_S = 30.0
PROGRESS_INTERVAL_S = 1.0
GB = 1e9


class StillLoading(RequestFailed):
    """The model did not come into memory within the time that a request waits for it."""

    status = 503
    code = "model_loading"
    retry_after_s = 10


class LacksNode(StillLoading):
    """The model waits for another node to share it. Another host may have it."""

    code = "model_waiting"
    retryable = True


class Busy(RequestFailed):
    """The model cannot be unloaded while it answers."""

    status = 409
    kind = "invalid_request_error"
    code = "model_busy"


class Room(Protocol):
    """The host's ledger."""

    @property
    def free_bytes(self) -> int: ...

    def reserve(self, holder: str, need_bytes: int, makeup: Makeup = UNKNOWN_MAKEUP) -> Reservation:
        """Raises NoRoom."""

    def release(self, reservation: Reservation) -> None: ...


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that may be in memory. make: its engine, anew for each load.  need_bytes: what a load will take.

    makeup: of those bytes.  slots: of its engine, known before it runs.  ttl_s: how long a lazy model stays without a
    request; 0 for ever.
    """

    name: str
    make: Callable[[], Engine]
    need_bytes: int
    slots: int
    policy: Policy = Policy.LAZY
    ttl_s: float = 600.0
    makeup: Makeup = UNKNOWN_MAKEUP


class Tenant(Protocol):
    """Who holds some of the memory, and may have to give it back. name: in the ledger."""

    @property
    def name(self) -> str: ...

    @property
    def need_bytes(self) -> int: ...

    @property
    def makeup(self) -> Makeup: ...

    @property
    def held_bytes(self) -> int: ...

    @property
    def policy(self) -> Policy: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def last_used(self) -> float: ...

    @property
    def is_wanted(self) -> bool: ...

    def wait_for_memory(self, reason: str) -> None: ...

    async def unload(self, reason: str) -> None:
        """Leave memory now. Raises Busy, EngineFailed."""


@dataclass(slots=True)
class Residence:
    """Those who share one host's memory: its models, and servers that others started."""

    room: Room
    _engines: dict[str, ResidentEngine] = field(default_factory=dict)
    _others: list[Tenant] = field(default_factory=list)
    _changes: Changes = field(default_factory=Changes)
    _making_room: asyncio.Lock = field(default_factory=asyncio.Lock)

    def add(self, resident: Resident) -> ResidentEngine:
        """An engine for `resident`, which shares this memory until its `run` ends."""
        engine = self._engines[resident.name] = ResidentEngine(resident, self)
        return engine

    def admit(self, tenant: Tenant) -> None:
        """Let one that is no model of ours make room, too."""
        self._others.append(tenant)

    def get(self, name: str) -> ResidentEngine | None:
        return self._engines.get(name)

    def forget(self, engine: ResidentEngine) -> None:
        if self._engines.get(engine.name) is engine:
            del self._engines[engine.name]

    def notify(self) -> None:
        """Memory was given back, or a model became idle: others may fit now."""
        self._changes.notify()

    async def make_room(self, fits: Callable[[], bool]) -> bool:
        """Displace idle lazy models, those that were used longest ago first, until it fits; whether it does."""
        async with self._making_room:
            while not fits():
                idle = [tenant for tenant in self._holding().values() if _loaded(tenant).may_go]
                if not idle or not await _displaced(min(idle, key=lambda tenant: tenant.last_used)):
                    return False
            return True

    def _holding(self) -> dict[str, Tenant]:
        return {tenant.name: tenant for tenant in (*self._engines.values(), *self._others) if tenant.held_bytes}

    async def _free_for(self, need_bytes: int) -> bool:
        """Displace what has to go for so much; whether it is free then. For those whose turn it is."""
        missing = need_bytes - self.room.free_bytes
        holding = self._holding()
        names = to_displace(missing, map(_loaded, holding.values())) if missing > 0 else ()
        if names is None:
            return False
        for name in names:
            await _displaced(holding[name])
        return self.room.free_bytes >= need_bytes

    @asynccontextmanager
    async def reserved(self, engine: ResidentEngine) -> AsyncIterator[bool]:
        """Hold the engine's memory; waits until there is enough, saying so. False when it is not wanted meanwhile."""
        held = await self.reserve(engine)
        engine.held_bytes = held.total_bytes if held is not None else 0
        try:
            yield held is not None
        finally:
            engine.held_bytes = 0
            if held is not None:
                self.room.release(held)
            self.notify()

    async def reserve(self, tenant: Tenant) -> Reservation | None:
        """The memory that `tenant` needs, once others have made room for it; None when it is no longer wanted."""
        while tenant.is_wanted:
            async with self._making_room:
                await self._free_for(tenant.need_bytes)
                try:
                    return self.room.reserve(tenant.name, tenant.need_bytes, tenant.makeup)
                except NoRoom as error:
                    tenant.wait_for_memory(str(error))
            await self._pause()
        return None

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN_S):
                await self._changes.wait()


async def _displaced(tenant: Tenant) -> bool:
    """Whether it has left memory."""
    logger.info("%s makes room", tenant.name)
    try:
        await tenant.unload("it made room for something else")
    except (Busy, EngineFailed, TimeoutError) as error:
        logger.warning("%s makes no room: %s", tenant.name, error or "it does not let go of its memory")
        return False
    return True


def _loaded(tenant: Tenant) -> Loaded:
    return Loaded(tenant.name, tenant.held_bytes, tenant.policy, tenant.in_flight, tenant.last_used)


class ResidentEngine:
    """An `Engine` that is in memory only while it is needed. Its kind is its inner engine's, once there was one."""

    def __init__(self, resident: Resident, residence: Residence) -> None:
        self.name = resident.name
        self.policy = resident.policy
        self.need_bytes = resident.need_bytes
        self.makeup = resident.makeup
        self.held_bytes = 0
        self.in_flight = 0
        self.last_used = 0.0
        self._resident = resident
        self._residence = residence
        self._inner: Engine | None = None
        self._kind = resident.make().kind
        self._state = EngineState.UNLOADED
        self._reason = "loads at its first request"
        self._wanted = resident.policy is Policy.PINNED
        self._changes = Changes()

    @property
    def kind(self) -> str:
        return self._inner.kind if self._inner is not None else self._kind

    @property
    def status(self) -> EngineStatus:
        if self._inner is None:
            return EngineStatus(self._state, self._reason, self.in_flight, 0, self._resident.slots, 0.0)
        inner = self._inner.status
        state = EngineState.LOADING if inner.state is EngineState.STOPPED else inner.state
        return replace(inner, state=state, in_flight=self.in_flight)

    async def changed(self) -> None:
        before = self.status.state
        while self.status.state is before:
            await self._changes.wait()

    async def run(self) -> None:
        """Load and unload as wanted until cancelled."""
        try:
            while True:
                while not self._wanted:
                    await self._changes.wait()
                async with self._residence.reserved(self) as is_held:
                    if is_held:
                        await self._live(self._resident.make())
                self._notify()
        finally:
            self._residence.forget(self)
            self._enter(EngineState.STOPPED, "stopped with the agent")

    @property
    def is_wanted(self) -> bool:
        return self._wanted

    def load(self) -> None:
        """Begin to load, unless it is in memory or on its way already."""
        if not self._wanted:
            self._wanted = True
            self._enter(EngineState.LOADING, "waiting for its turn to load")

    def pin(self, policy: Policy) -> None:
        """Change how the model stays."""
        self.policy = policy
        self._notify()

    async def unload(self, reason: str) -> None:
        """Leave memory now; returns when its bytes are free. Raises Busy while it answers."""
        if self.in_flight:
            raise Busy(f"model {self.name!r} is answering {self.in_flight} requests and cannot be unloaded now")
        self._wanted = False
        self._enter(EngineState.UNLOADED, f"unloaded: {reason}")
        async with asyncio.timeout(UNLOAD_DEADLINE_S):
            while self.held_bytes and not self._wanted:
                await self._changes.wait()

    def wait_for_memory(self, reason: str) -> None:
        """Say why it does not load yet."""
        self._enter(EngineState.WAITING, reason)

    async def answer(self, request: Request) -> Reply:
        self.in_flight += 1
        try:
            inner = await self._ready(request)
            return WatchedReply(await inner.answer(request), self._done)
        except BaseException:
            self._done()
            raise

    async def _ready(self, request: Request) -> Engine:
        """The inner engine, once it is ready. Raises EngineFailed, StillLoading, LacksNode."""
        self.load()
        patience_s = min(LOAD_DEADLINE_S, max(0.0, request.deadline_s))
        now, waits_since = asyncio.get_running_loop().time, 0.0
        try:
            async with asyncio.timeout(patience_s):
                while True:
                    status = self.status
                    if self._inner is not None and status.state is EngineState.READY:
                        return self._inner
                    # It has its memory here, so it waits for another node.
                    waits = self._inner is not None and status.state is EngineState.WAITING
                    waits_since = (waits_since or now()) if waits else 0.0
                    if waits and now() - waits_since >= OTHERS_PATIENCE_S:
                        raise LacksNode(f"model {self.name!r} waits: {status.reason}")
                    if status.state is EngineState.FAILED:
                        raise EngineFailed(f"model {self.name!r} did not load: {status.reason}", retryable=True)
                    request.on_progress(f"{self.name}: {status.state.value}: {status.reason}")
                    await self._change_or_second()
        except TimeoutError as error:
            waited = f"model {self.name!r} is not in memory after {patience_s:.0f} s: {self.status.reason}"
            raise StillLoading(f"{waited}; try again shortly") from error

    async def _change_or_second(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(PROGRESS_INTERVAL_S):
                await self._changes.wait()

    async def _live(self, inner: Engine) -> None:
        """Run the inner engine until nobody wants it."""
        async with asyncio.TaskGroup() as group:
            self._inner = inner
            running = group.create_task(inner.run(), name=f"engine of {self.name}")
            watching = group.create_task(self._follow(inner), name=f"follow {self.name}")
            self._notify()
            try:
                await self._until_unwanted()
            finally:
                self._inner = None
                running.cancel()
                watching.cancel()

    async def _until_unwanted(self) -> None:
        loop = asyncio.get_running_loop()
        self.last_used = loop.time()
        while self._wanted:
            leaves_at = idle_until(self.policy, self.in_flight, self.last_used, self._resident.ttl_s)
            try:
                async with asyncio.timeout_at(leaves_at):
                    await self._changes.wait()
            except TimeoutError:
                logger.info("model %s was not used for %.0f s and leaves memory", self.name, self._resident.ttl_s)
                self._wanted = False
                self._enter(EngineState.UNLOADED, "unloaded: nobody asked for it; loads at its next request")

    async def _follow(self, inner: Engine) -> None:
        while True:
            await inner.changed()
            self._notify()

    def _done(self) -> None:
        self.in_flight -= 1
        self.last_used = asyncio.get_running_loop().time()
        self._notify()
        self._residence.notify()

    def _enter(self, state: EngineState, reason: str) -> None:
        self._state, self._reason = state, reason
        self._notify()

    def _notify(self) -> None:
        self._changes.notify()
