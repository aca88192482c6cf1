"""Wires split models: what the mesh looks like to a model that may be split, and this node as a worker for others.

Made before the node, for engines are, and told of the mesh once there is one. How a model is placed is decided in
`llm.split.layout`, brought about in `llm.split.leader` and `llm.split.worker`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from gossip.belief import Believe, believe_everybody
from gossip.facts import read_gpu
from gossip.lease import claims
from gossip.lease_message import LEASE_S, LeaseRefused, LeaseRequest, RefusalCode
from gossip.runner import GossipRunner
from gossip.view import NodeView, View
from llm.claims import resource_of
from llm.engines.interface import Launcher
from llm.engines.llama_arguments import LlamaServerOptions
from llm.engines.llama_binary import EngineMissing
from llm.gguf import ModelFile
from llm.host import Host
from llm.memory.need import GPU_CONTEXT_BYTES
from llm.offer import Hosting, MeshModel, catalogue
from llm.residency import Makeup
from llm.split.build import EngineBuild, read_build
from llm.split.engine import Elsewhere, PlacedEngine, PlacedModel, Way
from llm.split.layout import Holder, Needs, Solo, Split, decide, in_gb
from llm.split.leader import Means, SplitFailed
from llm.split.message import SERVICE
from llm.split.weight_cache import WeightCache
from llm.split.worker import OwnModel, SplitWorker, Workshop
from meshd.datadir import DataDir
from meshd.leases import Leases
from meshd.memory import HostMemory
from meshd.model_needs import layers_of, makeups_of, needs_of
from meshd.tunnels import Tunnels
from transport.interface import NodeId, Transport


@dataclass(frozen=True, slots=True)
class MeshParts:
    """What of the node split models stand on. believe: how far what a node says of its speed goes."""

    gossip: GossipRunner
    transport: Transport
    tunnels: Tunnels
    host: Host
    leases: Leases
    believe: Believe = believe_everybody


@dataclass(slots=True)
class Splitting:
    """This node's part in split models. is_forced: `--split`.  binary: the llama-server, None for the usual one.

    known_build: of that engine, once it was asked.
    """

    directory: DataDir
    launcher: Launcher
    binary: Path | None
    is_forced: bool
    threads: int
    memory: HostMemory
    _parts: MeshParts | None = None
    _own: dict[str, OwnModel] = field(default_factory=dict)
    known_build: EngineBuild | None = None
    _worker: SplitWorker | None = None

    def engine(self, file: ModelFile, fingerprint: str, options: LlamaServerOptions) -> PlacedEngine:
        """An engine for a model on this disk, which is from now on also a model that this node can help with."""
        self._own[options.name] = OwnModel(options.name, fingerprint, file)
        mesh = ModelMesh(self, file, options)
        model = PlacedModel(fingerprint, layers_of(file), mesh.resource, options)
        return PlacedEngine(model, mesh, self.launcher)

    def forget(self, name: str) -> None:
        """That model's files are about to leave this disk."""
        self._own.pop(name, None)

    def attach(self, parts: MeshParts) -> SplitWorker:
        """Say what the mesh is, before any engine runs. Returns `worker`, to be run and offered."""
        self._parts = parts
        workshop = Workshop(
            launcher=self.launcher,
            logs=self.directory.logs,
            cache=WeightCache(self.directory.root / "rpc-cache"),
            threads=self.worker_threads,
            build=self.build,
            models=lambda: tuple(self._own.values()),
            reserved=self.reserved,
            is_ram=self.memory.is_ram,
            binary=self.binary,
        )
        self._worker = SplitWorker(parts.leases.service, workshop)
        return self._worker

    @property
    def parts(self) -> MeshParts:
        assert self._parts is not None, "attach comes before any engine runs"
        return self._parts

    @property
    def worker(self) -> SplitWorker:
        """This node as a worker for others."""
        assert self._worker is not None, "attach makes it"
        return self._worker

    @property
    def worker_threads(self) -> int:
        return self.threads or max(1, (os.cpu_count() or 2) // 2)

    async def build(self) -> EngineBuild:
        """Which build of llama.cpp this node's engine is. Raises EngineMissing."""
        if self.known_build is None:
            self.known_build = await read_build(self.binary, self.launcher, self.directory.logs / "engine-build.log")
        return self.known_build

    @contextlib.contextmanager
    def reserved(self, holder: str, need_bytes: int, makeup: Makeup) -> Iterator[None]:
        """Hold so much of this host's memory while the block lasts. Raises NoRoom."""
        reservation = self.memory.reserve(holder, need_bytes, makeup)
        try:
            yield
        finally:
            self.memory.release(reservation)

    def room(self, host: NodeId, request: LeaseRequest) -> LeaseRefused | None:
        """Whether a leader may use so much memory here: what is free, less what was promised and is not in use yet."""
        parts = self._parts
        if parts is None:
            return LeaseRefused(RefusalCode.BUSY, "this node has just started")
        others = [
            grant
            for grant in parts.leases.service.grants()
            if grant.purpose == "work"
            and (grant.resource, grant.host) != (request.resource, host)
            and not self.worker.works_for(grant)
        ]
        promised = sum(grant.memory_bytes for grant in others)
        own = self.worker.held_bytes(request.resource, host)
        free = self.memory.free_bytes - self.memory.context_bytes - promised + own
        if request.memory_bytes <= free:
            return None
        words = f"asked for {in_gb(request.memory_bytes)} GB, this node has {in_gb(max(0, free))} GB free"
        return LeaseRefused(RefusalCode.NO_ROOM, words)


async def work_for_others(worker: SplitWorker, tunnels: Tunnels) -> None:
    """Be a worker until cancelled."""
    with tunnels.server.offer(SERVICE, worker.admit):
        await worker.run()


class ModelMesh:
    """The mesh as one of this node's models sees it; `llm.split.engine.Mesh`."""

    def __init__(self, splitting: Splitting, file: ModelFile, options: LlamaServerOptions) -> None:
        self._splitting = splitting
        self._file = file
        self._options = options
        self._seen_version = 0
        self._led: frozenset[NodeId] = frozenset()  # the nodes of the split that this node led last
        self._needs_of: dict[bool, Needs] = {}

    async def means(self) -> Means:
        splitting, parts = self._splitting, self._splitting.parts
        try:
            build = await splitting.build()
        except EngineMissing as error:
            raise SplitFailed(str(error)) from error
        return Means(
            transport=parts.transport,
            tunnels=parts.tunnels.client,
            keeper=parts.leases.keeper,
            launcher=splitting.launcher,
            build=build,
            computes_in_ram=_computes_in_ram(parts.gossip.view.me),
            is_there=lambda node: any(one.node == node for one in _workers(parts.gossip.view)),
            own_shares=_own_shares(parts.gossip.view.me),
        )

    async def way(self, left_out: frozenset[NodeId]) -> Way:
        view = self._look()
        needs = self._needs(view.me)
        me = self._me(view.me)
        believe = self._splitting.parts.believe
        nodes = [node for node in _workers(view) if node.node not in left_out and believe(node.node) > 0]
        workers = [_holder(node, keeps_weights=node.node in self._led) for node in nodes]
        settled = [worker for worker, node in zip(workers, nodes, strict=True) if has_settled(node)]
        is_forced = self._splitting.is_forced
        # Each prediction walks a graph, and there may be hundreds of sets of nodes to look at.
        decision = await asyncio.to_thread(decide, me, settled, needs, layers_of(self._file), is_forced=is_forced)
        if not isinstance(decision, Solo | Split) and workers != settled:
            # With nothing better to do meanwhile, the others are asked until they give a lease.
            decision = await asyncio.to_thread(decide, me, workers, needs, layers_of(self._file), is_forced=is_forced)
        match decision:
            case Solo():
                return Way(decision, note=_note_on_idle(workers, is_forced=is_forced))
            case Split():
                return self._led_by(view, decision)
            case _ if (other := self._served_alone_elsewhere(view)) is not None:
                return Way(Elsewhere(f"{other} serves it alone; here it does not fit: {decision.reason}"))
            case _:
                return Way(decision)

    def makeups(self, shares: tuple[float, ...] = ()) -> tuple[Makeup, ...]:
        return makeups_of(self._file, self._options, shares, in_ram=self._splitting.memory.is_ram)

    def reserved(self, need_bytes: int, makeup: Makeup) -> AbstractContextManager[None]:
        if self._splitting.memory.held_by(self._options.name) >= need_bytes:
            return contextlib.nullcontext()  # it was reserved before the engine was made
        return self._splitting.reserved(self._options.name, need_bytes, makeup)

    def successor(self) -> str:
        return self._leader_but_me(self._look())

    async def changed(self) -> None:
        await self._splitting.parts.gossip.changed(self._seen_version)

    def resource(self) -> str:
        """What a claim to lead this model is called."""
        model = self._model(self._look())
        return resource_of(model.name if model is not None else self._options.name)

    def _me(self, me: NodeView) -> Holder:
        """This node, with what is free on it now. What is reserved for the model already is not, and yet its own."""
        memory = self._splitting.memory
        free = memory.free_bytes + memory.held_by(self._options.name) - memory.context_bytes
        return Holder(me.node, me.name, max(0, free))

    def _look(self) -> View:
        view = self._splitting.parts.gossip.view
        self._seen_version = view.version
        return view

    def _led_by(self, view: View, split: Split) -> Way:
        """The split, when this node's claim stands; else who leads, or that it is not settled yet."""
        if not self._splitting.is_forced and (other := self._served_alone_elsewhere(view)) is not None:
            return Way(Elsewhere(f"{other} serves it alone; here it does not fit"))
        if leader := self._leader_but_me(view):
            return Way(Elsewhere(leader))
        claim = claims(view).get(self.resource())
        if claim is None:
            return Way(Elsewhere("the nodes that have it choose who leads the split"))
        if why_not := self._splitting.parts.leases.why_not_yet(claim.resource):
            return Way(Elsewhere(why_not))
        self._led = frozenset(part.holder.node for part in split.parts)
        return Way(split, claim.term)

    def _leader_but_me(self, view: View) -> str:
        claim = claims(view).get(self.resource())
        if claim is None or claim.host == view.me.node:
            return ""
        leader = view.get(claim.host)
        name = leader.name if leader is not None else "another node"
        if any(one.node.node == claim.host and one.offer.mode == "solo" for one in self._others(view)):
            return f"{name} hosts it, alone; whether it is shared is for {name} to be told"
        return f"{name} leads it, and this node works for it"

    def _served_alone_elsewhere(self, view: View) -> str | None:
        """The name of another node that serves this very model by itself."""
        for hosting in self._others(view):
            offer = hosting.offer
            if hosting.node.is_usable and offer.mode == "solo" and offer.state in ("ready", "loading"):
                return hosting.node.name
        return None

    def _others(self, view: View) -> list[Hosting]:
        model = self._model(view)
        return [one for one in model.hostings if one.node is not view.me] if model is not None else []

    def _model(self, view: View) -> MeshModel | None:
        """The mesh's model that this node's file is."""
        for model in catalogue(view, self._splitting.parts.host.offers()):
            if any(one.node is view.me and one.offer.name == self._options.name for one in model.hostings):
                return model
        return None

    def _needs(self, me: NodeView) -> Needs:
        in_ram = _computes_in_ram(me)
        if in_ram not in self._needs_of:
            self._needs_of[in_ram] = needs_of(self._file, self._options, in_ram=in_ram)
        return self._needs_of[in_ram]


def usable_bytes(node: NodeView) -> int:
    """Memory that `node` says is free, less what a GPU takes for being used at all."""
    fact = read_gpu(node)
    devices = fact.devices if fact is not None else ()
    contexts = GPU_CONTEXT_BYTES * sum(device.kind == "cuda" for device in devices)
    return max(0, sum(device.free_bytes for device in devices) - contexts)


def _holder(node: NodeView, *, keeps_weights: bool) -> Holder:
    return Holder(node.node, node.name, usable_bytes(node), node.rtt_ms or 0.0, keeps_weights)


def has_settled(node: NodeView) -> bool:
    """Whether `node` has been there long enough to grant a lease on what it worked for before it started again."""
    return node.boot <= 1 or node.known_for_s >= LEASE_S


def _workers(view: View) -> list[NodeView]:
    return [node for node in view.nodes[1:] if node.is_usable and node.linked and read_gpu(node) is not None]


def _computes_in_ram(node: NodeView) -> bool:
    fact = read_gpu(node)
    return fact is None or all(device.kind == "cpu" for device in fact.devices)


def _own_shares(node: NodeView) -> tuple[float, ...]:
    fact = read_gpu(node)
    sizes = [device.total_bytes for device in fact.devices] if fact is not None else []
    return tuple(size / max(1, sum(sizes)) for size in sizes) or (1.0,)


def _note_on_idle(workers: list[Holder], *, is_forced: bool) -> str:
    if not workers:
        return "--split: waiting for a second node, served alone meanwhile" if is_forced else ""
    names = ", ".join(one.name for one in workers)
    return f"it fits here alone, so {names} {'idles' if len(workers) == 1 else 'idle'}: use --split to force"
