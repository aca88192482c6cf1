"""The leader's end of a split: leases of its workers, their RPC servers through tunnels, and the engine on top.

Whether and with whom is decided in `layout`; the claim to the model, and what a lease is, are gossip's. A split lives
until something it stands on is gone, and then all of it ends: llama-server cannot lose a device and go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from gossip.lease_message import lease_text
from gossip.tenure import Hold, Lease
from llm.engines.interface import EngineState, Launcher
from llm.engines.llama_arguments import LlamaServerOptions, RpcDevices
from llm.engines.llama_server import LlamaServerEngine
from llm.memory.footprint import placement
from llm.residency import Makeup
from llm.split.build import EngineBuild
from llm.split.layout import Part, Split, own_layers
from llm.split.message import (
    PREPARE_S,
    PROTOCOL,
    SERVICE,
    SILENCE_S,
    Prepare,
    Prepared,
    Preparing,
    Refused,
    read_answer,
    to_record,
)
from llm.split.weights import Part as Span
from transport.address import format_address
from transport.errors import MeshError, ResetCode
from transport.interface import NodeId, StreamHeader, Transport
from transport.tunnel import Destination, TunnelClient, TunnelListener
from transport.wire import printable

logger = logging.getLogger("meshd.llm")

LEASE_WAIT_S = 25.0
"""For the first lease: a worker that has just started gives none for 10 s, and has to hear of the claim first."""
LEASE_LOOK_S = 1.0
REGAIN_S = 5.0
"""How long a lease may be missing before the engine goes: the same link that carries it carries the tunnel, which
waits as long. What the engine sends meanwhile stays here, for the tunnel's stream is gone as well."""


class SplitFailed(Exception):
    """The split does not come about, or has ended. The message says why; workers: those who would not, and why."""

    def __init__(self, message: str, workers: Mapping[NodeId, str] | None = None) -> None:
        super().__init__(message)
        self.workers = dict(workers or {})


class Keeper(Protocol):
    """What `gossip.lease_keeper.LeaseKeeper` does."""

    def hold(self, hold: Hold) -> None: ...

    def leases(self, resource: str) -> dict[NodeId, Lease]: ...

    def refusals(self, resource: str) -> Mapping[NodeId, str]: ...

    async def changed(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Means:
    """What a leader works with. build: of its engine.

    computes_in_ram: this host has no GPU, so its own part are the first layers, which llama-server keeps on the CPU;
    GPUs it uses itself, beside the workers'.  own_shares: how its part divides over those GPUs.  is_there: whether a
    node could work for others now.
    """

    transport: Transport
    tunnels: TunnelClient
    keeper: Keeper
    launcher: Launcher
    build: EngineBuild
    computes_in_ram: bool
    is_there: Callable[[NodeId], bool]
    own_shares: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, slots=True)
class Undertaking:
    """One split of one model. resource, term: of this node's claim.  layers: of the model.  makeups: of each part."""

    resource: str
    term: int
    fingerprint: str
    layers: int
    split: Split
    options: LlamaServerOptions
    makeups: tuple[Makeup, ...]

    @property
    def workers(self) -> tuple[Part, ...]:
        return self.split.parts[1:]


@dataclass(frozen=True, slots=True)
class _Reached:
    """An RPC server that llama-server can be told of. device_shares: how the part divides over its devices."""

    address: str
    device_shares: tuple[float, ...]


class Leader:
    """Brings one split about. say: told what is going on, for people."""

    def __init__(self, means: Means, what: Undertaking, say: Callable[[str], None]) -> None:
        self._means = means
        self._what = what
        self._say = say
        self._listeners: dict[str, TunnelListener] = {}

    @contextlib.asynccontextmanager
    async def leading(self) -> AsyncIterator[LlamaServerEngine]:
        """The engine of the split, not started; run it, and `watch`, inside. Raises SplitFailed."""
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._hold, {})
            leases = await self._gain_leases()
            prepared = await self._prepare_all(leases)
            reached = [
                await self._reach(stack, part, leases[part.holder.node], prepared[part.holder.node])
                for part in self._what.workers
            ]
            yield LlamaServerEngine(self._options(reached), self._means.launcher)

    async def watch(self, engine: LlamaServerEngine) -> str:
        """Wait until the split cannot go on; why."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._lost_ground()), group.create_task(_failed(engine))]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
        return next(iter(done)).result()

    # Leases

    def _hold(self, workers: Mapping[NodeId, int]) -> None:
        self._means.keeper.hold(Hold(self._what.resource, "work", self._what.term, workers))

    async def _gain_leases(self) -> dict[NodeId, Lease]:
        """A lease of each worker. Raises SplitFailed with who gave none, and why."""
        self._hold({part.holder.node: part.needed_bytes for part in self._what.workers})
        names = ", ".join(part.holder.name for part in self._what.workers)
        self._say(f"asking {names} to take part")
        try:
            async with asyncio.timeout(LEASE_WAIT_S):
                while missing := self._missing():
                    if gone := [node for node in missing if not self._means.is_there(node)]:
                        # Nobody's refusal: it may be asked again as soon as it is back.
                        raise SplitFailed(self._explain(dict.fromkeys(gone, "it went away before it gave a lease")))
                    await self._keeper_changed()
        except TimeoutError:
            refusals = self._means.keeper.refusals(self._what.resource)
            reasons = {node: refusals.get(node, "no answer") for node in missing}
            raise self._failure(reasons, "gave no lease: ") from None
        return self._means.keeper.leases(self._what.resource)

    def _missing(self) -> list[NodeId]:
        held = self._means.keeper.leases(self._what.resource)
        return [part.holder.node for part in self._what.workers if part.holder.node not in held]

    async def _keeper_changed(self) -> None:
        # A lease also lapses by itself, which nobody tells.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEASE_LOOK_S):
                await self._means.keeper.changed()

    async def _lost_ground(self) -> str:
        """Wait until a lease or a tunnel is gone; which."""
        loop = asyncio.get_running_loop()
        missing_since: float | None = None
        while True:
            if broken := [name for name, listener in self._listeners.items() if listener.failures]:
                # An idle llama-server notices only when it is asked next, and then takes the request along.
                return f"the tunnel to {', '.join(broken)} broke"
            missing = self._missing()
            missing_since = (missing_since or loop.time()) if missing else None
            if missing_since is not None and loop.time() - missing_since >= REGAIN_S:
                refusals = self._means.keeper.refusals(self._what.resource)
                reasons = {node: refusals.get(node, "it does not answer") for node in missing}
                return f"lost the lease of {self._explain(reasons)}"
            await self._keeper_changed()

    def _failure(self, reasons: Mapping[NodeId, str], words: str = "") -> SplitFailed:
        """reasons: why each of these workers takes no part."""
        return SplitFailed(
            self._explain({node: words + reason for node, reason in reasons.items()}),
            {node: self._explain({node: words + reason}) for node, reason in reasons.items()},
        )

    def _explain(self, reasons: Mapping[NodeId, str]) -> str:
        names = {part.holder.node: part.holder.name for part in self._what.workers}
        return "; ".join(f"{names[node]}: {printable(reason, 500)}" for node, reason in reasons.items())

    # Preparing

    async def _prepare_all(self, leases: Mapping[NodeId, Lease]) -> dict[NodeId, Prepared]:
        """Have every worker's RPC server run, all at once. Raises SplitFailed naming those who refuse."""
        spans = self._spans()
        async with asyncio.TaskGroup() as group:
            tasks = {
                part.holder.node: group.create_task(
                    self._prepare(part, leases[part.holder.node], spans[part.holder.node]),
                    name=f"prepare {part.holder.name}",
                )
                for part in self._what.workers
            }
        outcomes = {node: task.result() for node, task in tasks.items()}
        refused = {node: outcome for node, outcome in outcomes.items() if isinstance(outcome, str)}
        if refused:
            raise self._failure(refused)
        return {node: outcome for node, outcome in outcomes.items() if isinstance(outcome, Prepared)}

    def _spans(self) -> dict[NodeId, Span]:
        """The layers of each part, as llama.cpp cuts them."""
        # llama.cpp puts the servers' devices before its own.
        leader = self._what.split.parts[0]
        parts = self._what.workers if self._means.computes_in_ram else (*self._what.workers, leader)
        place = placement(self._what.layers, tuple(part.share for part in parts), self._kept_layers())
        spans = {}
        for number, part in enumerate(parts):
            mine = [layer for layer, device in enumerate(place.layers) if device == number]
            spans[part.holder.node] = Span(mine[0] if mine else 0, len(mine), place.output == number)
        return spans

    async def _prepare(self, part: Part, lease: Lease, span: Span) -> Prepared | str:
        """What the worker of this part says, or why it does not take part."""
        makeup = self._what.makeups[self._what.split.parts.index(part)]
        prepare = Prepare(
            lease=lease_text(lease.lease, lease.term),
            model=self._what.options.name,
            fingerprint=self._what.fingerprint,
            build=self._means.build,
            memory_bytes=part.needed_bytes,
            weights_bytes=makeup.weights,
            kv_bytes=makeup.kv,
            first_layer=span.first_layer,
            layers=span.layers,
            has_output=span.has_output,
        )
        self._say(f"{part.holder.name} prepares {span.layers} of {self._what.layers} layers")
        try:
            async with asyncio.timeout(PREPARE_S):
                return await self._ask(part, prepare)
        except TimeoutError:
            return "it fell silent while it prepared"
        except MeshError as error:
            return str(error)

    async def _ask(self, part: Part, prepare: Prepare) -> Prepared | str:
        node = part.holder.node
        stream = await self._means.transport.open(node, StreamHeader(PROTOCOL, "", int(PREPARE_S * 1000)))
        try:
            await stream.send(to_record(prepare))
            while True:
                async with asyncio.timeout(SILENCE_S):
                    answer = read_answer(await stream.receive(), node)
                match answer:
                    case Preparing(words):
                        self._say(f"{part.holder.name} is {printable(words, 200)}")
                    case Prepared(_, own_bytes):
                        logger.info("%s is prepared, %d MB from its own disk", part.holder.name, own_bytes >> 20)
                        return answer
                    case Refused(reason):
                        return printable(reason, 500)
        finally:
            stream.reset(ResetCode.CANCELLED)

    # Reaching

    async def _reach(self, stack: contextlib.AsyncExitStack, part: Part, lease: Lease, prepared: Prepared) -> _Reached:
        destination = Destination(part.holder.node, SERVICE, lease_text(lease.lease, lease.term), lease.term)
        listener = await stack.enter_async_context(self._means.tunnels.listen(destination))
        self._listeners[part.holder.name] = listener
        return _Reached(format_address(listener.address), _divided(part.share, prepared.device_bytes))

    def _options(self, reached: Sequence[_Reached]) -> LlamaServerOptions:
        shares = [share for one in reached for share in one.device_shares]
        if not self._means.computes_in_ram:
            shares += [round(self._what.split.parts[0].share * share, 4) for share in self._means.own_shares]
        return replace(
            self._what.options,
            rpc=RpcDevices(tuple(one.address for one in reached), tuple(shares)),
            gpu_layers=self._what.layers + 1 - self._kept_layers(),
            host_cache=self._what.options.host_cache.of_a_leader,
        )

    def _kept_layers(self) -> int:
        """How many layers stay on this host's CPU."""
        if not self._means.computes_in_ram:
            return 0
        return own_layers([part.share for part in self._what.split.parts], self._what.layers)


async def _failed(engine: LlamaServerEngine) -> str:
    while engine.status.state is not EngineState.FAILED:
        await engine.changed()
    return engine.status.reason


def _divided(share: float, device_bytes: Sequence[int]) -> tuple[float, ...]:
    """A node's share over its devices, by their memory."""
    if len(device_bytes) == 1:
        return (share,)
    total = max(sum(device_bytes), 1)
    return tuple(round(share * max(one, 1) / total, 4) for one in device_bytes)
