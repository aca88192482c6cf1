"""The worker's end of a split: under a lease, an RPC server for its host, and nobody else's way to it.

Who gets a lease is `gossip.lease_service`'s to decide, how bytes travel `transport.tunnel`'s. Here a lease becomes a
`ggml-rpc-server`, which ends with it: llama.cpp's RPC does what it is told by whoever reaches it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gossip.grant import Grant
from llm.engines.interface import EngineFailed, Launcher
from llm.engines.llama_binary import EngineMissing
from llm.engines.rpc_server import RpcServer, RpcServerOptions, running_rpc_server
from llm.gguf import ModelFile
from llm.offer import OTHER_BUILD
from llm.residency import Makeup, NoRoom
from llm.split.build import EngineBuild, why_not_together
from llm.split.message import (
    PREPARE_S,
    PREPARING_EVERY_S,
    Answer,
    Prepare,
    Prepared,
    Preparing,
    Refused,
    read_prepare,
    to_record,
)
from llm.split.weight_cache import WeightCache, WeightFolder
from llm.split.weights import Part, WeightFiller
from transport.errors import MeshError, ResetCode, TimedOut, Unreachable
from transport.identity import short
from transport.interface import NodeId, Peer, Stream
from transport.pipe import Pipe, connect
from transport.tunnel_message import Denial, ServiceRefused
from transport.tunnel_server import TunnelRequest
from transport.wire import printable

logger = logging.getLogger("meshd.llm")

PREPARE_WAIT_S = 10.0
"""For a peer to say what it wants once it has opened the stream."""
READY_WAIT_S = 60.0
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 5.0
SPARE_BYTES = 512 << 20
"""For the process itself and its threads' stacks."""


class Leases(Protocol):
    """What `gossip.lease_service.LeaseService` knows."""

    def find(self, host: Peer, lease: str) -> Grant | None: ...

    def grants(self) -> dict[Grant, float]: ...

    async def changed(self) -> None: ...


@dataclass(frozen=True, slots=True)
class OwnModel:
    """A model that this node has on its own disk."""

    name: str
    fingerprint: str
    file: ModelFile


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a worker works with. build: of its engine.  models: those on its disk, now.  binary: its llama-server.

    is_ram: whether models are computed on the CPU here.  reserved: holds so many bytes of this host's memory for a
    named holder while the block lasts; raises NoRoom.
    """

    launcher: Launcher
    logs: Path
    cache: WeightCache
    threads: int
    build: Callable[[], Awaitable[EngineBuild]]
    models: Callable[[], tuple[OwnModel, ...]]
    reserved: Callable[[str, int, Makeup], AbstractContextManager[None]]
    is_ram: bool
    binary: Path | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """What a lease is for, and what an RPC server is kept for while one lease follows another without a gap."""

    resource: str
    host: NodeId
    term: int


@dataclass(slots=True, eq=False)
class _Work:
    """One RPC server and its restarts. server: while it runs.  failure: why it does not."""

    place: _Place
    options: RpcServerOptions
    memory_bytes: int
    makeup: Makeup
    task: asyncio.Task[None] | None = None
    server: RpcServer | None = None
    failure: str = "it has not started yet"


class RpcPipe:
    """A connection to an RPC server, where an end that comes from there is its death.

    An idle client would hear of that only when it is asked next: its kernel takes the end of one direction for orderly.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._has_finished = False

    async def read(self, max_bytes: int) -> bytes:
        data = await self._pipe.read(max_bytes)
        if not data and not self._has_finished:
            raise ConnectionResetError("the RPC server has ended")
        return data

    async def write(self, data: bytes) -> int:
        return await self._pipe.write(data)

    async def finish(self) -> None:
        self._has_finished = True
        await self._pipe.finish()

    def close(self) -> None:
        self._pipe.close()

    def abort(self) -> None:
        self._pipe.abort()


class SplitWorker:
    """Every part that this node computes for others."""

    def __init__(self, leases: Leases, workshop: Workshop) -> None:
        self._leases = leases
        self._workshop = workshop
        self._works: dict[_Place, _Work] = {}
        self._changed = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None

    @property
    def servers(self) -> tuple[RpcServer, ...]:
        """Those that run now."""
        return tuple(work.server for work in self._works.values() if work.server is not None)

    def works_for(self, grant: Grant) -> bool:
        """Whether there is an RPC server under this lease, or about to be; its memory is reserved then."""
        return _place(grant) in self._works

    def held_bytes(self, resource: str, host: NodeId) -> int:
        """What is reserved for parts of `resource` that `host` leads: its own to use again under the next lease."""
        works = [work for place, work in self._works.items() if (place.resource, place.host) == (resource, host)]
        return sum(work.memory_bytes for work in works)

    async def run(self) -> None:
        """End each RPC server with its lease, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                while True:
                    self._end_what_has_no_lease()
                    await self._leases.changed()
            finally:
                self._group = None
                for work in self._works.values():
                    _stop(work)

    async def serve(self, stream: Stream) -> None:
        """Prepare for the one part that a `split/1` stream asks for. Raises MeshError."""
        try:
            async with asyncio.timeout(PREPARE_WAIT_S):
                prepare = read_prepare(await stream.receive(), stream.peer.node)
        except TimeoutError as error:
            raise TimedOut(f"node {short(stream.peer.node)} did not say which part in {PREPARE_WAIT_S:g} s") from error
        try:
            answer = await self._prepare_saying_so(stream, prepare)
            await stream.send(to_record(answer))
            await stream.finish()
        except MeshError:
            raise
        except BaseException:
            stream.reset(ResetCode.CANCELLED)
            raise
        if isinstance(answer, Refused):
            model = printable(prepare.model, 128)
            logger.info(
                "refused node %s a part of %s: %s", short(stream.peer.node), model, printable(answer.reason, 500)
            )

    async def admit(self, request: TunnelRequest) -> Pipe:
        """What a tunnel of service `rpc` is connected to.

        Raises ServiceRefused without a lease, Unreachable or TimedOut without a server.
        """
        grant = self._leases.find(request.peer, request.lease)
        if grant is None or grant.term != request.term:
            raise ServiceRefused(Denial.NO_LEASE, "no lease of yours that counts now covers this")
        work = self._works.get(_place(grant))
        if work is None:
            raise ServiceRefused(Denial.NOT_ALLOWED, "nothing was prepared under this lease: ask on split/1 first")
        if work.server is None:
            raise Unreachable(f"the RPC server for this lease does not run: {work.failure}")
        return RpcPipe(await connect(work.server.address))

    # Preparing

    async def _prepare_saying_so(self, stream: Stream, prepare: Prepare) -> Answer:
        """The outcome, with words of life meanwhile: hashing and copying take minutes."""
        async with asyncio.TaskGroup() as group:
            preparing = group.create_task(self._prepare(stream.peer, prepare), name=f"prepare {prepare.model}")
            while not preparing.done():
                await asyncio.wait({preparing}, timeout=PREPARING_EVERY_S)
                if not preparing.done():
                    await self._say_preparing(stream, preparing)
        return preparing.result()

    async def _say_preparing(self, stream: Stream, preparing: asyncio.Task[Answer]) -> None:
        try:
            await stream.send(to_record(Preparing("taking weights from its own disk")))
        except MeshError:
            preparing.cancel()  # nobody waits for it any more
            raise

    async def _prepare(self, host: Peer, prepare: Prepare) -> Answer:
        try:
            async with asyncio.timeout(PREPARE_S):
                return await self._prepare_or_fail(host, prepare)
        except (EngineMissing, EngineFailed, OSError, TimeoutError) as error:
            return Refused(f"it cannot: {error}"[:500])

    async def _prepare_or_fail(self, host: Peer, prepare: Prepare) -> Answer:
        workshop = self._workshop
        grant = self._leases.find(host, prepare.lease)
        if grant is None:
            return Refused("no lease of yours that counts now covers this")
        if refusal := self._why_not(prepare, await workshop.build()):
            return Refused(refusal[:500])
        folder = await asyncio.to_thread(workshop.cache.open, host.node, prepare.fingerprint, grant.memory_bytes)
        own_bytes = await self._take_own(prepare, folder) if folder is not None else 0
        grant = self._leases.find(host, prepare.lease)
        if grant is None or self._group is None:
            return Refused("the lease ended while this node prepared; ask again under a new one")
        server = await self._server(self._work(grant, prepare, folder))
        return Prepared(server.greeting.device_bytes, own_bytes)

    def _why_not(self, prepare: Prepare, build: EngineBuild) -> str:
        if mismatch := why_not_together(prepare.build, build):
            return f"{OTHER_BUILD}: {mismatch}"
        for own in self._workshop.models():
            if own.name == prepare.model and own.fingerprint != prepare.fingerprint:
                return (
                    f"another file is called {own.name!r} here ({own.fingerprint[:8]}, the leader's is "
                    f"{prepare.fingerprint[:8]}): a different quantisation, or training, of the same name; rename one "
                    "of them, or use the same file on both"
                )
        return ""

    async def _take_own(self, prepare: Prepare, folder: WeightFolder) -> int:
        """Put the part's large tensors into the cache when the model is on this disk too; how many bytes."""
        own = next((one for one in self._workshop.models() if one.fingerprint == prepare.fingerprint), None)
        if own is None:
            return 0
        filler = WeightFiller(
            self._workshop.launcher, self._workshop.logs / f"weights-{_file_name(prepare)}.log", self._workshop.binary
        )
        part = Part(prepare.first_layer, prepare.layers, prepare.has_output)
        return await filler.fill(own.file, part, folder)

    # The servers

    def _work(self, grant: Grant, prepare: Prepare, folder: WeightFolder | None) -> _Work:
        """The work under this lease; one that runs already is begun anew, for its memory may be another leader's."""
        assert self._group is not None
        place = _place(grant)
        if place in self._works:
            self._end(self._works[place], "its leader prepares anew")
        options = RpcServerOptions(
            self._workshop.logs / f"rpc-{_file_name(prepare)}.log",
            folder.path if folder is not None else None,
            self._workshop.threads,
            binary=self._workshop.binary,
            data_limit_bytes=data_limit(grant.memory_bytes) if self._workshop.is_ram else None,
        )
        makeup = Makeup(weights=prepare.weights_bytes, kv=prepare.kv_bytes)
        work = self._works[place] = _Work(place, options, grant.memory_bytes, makeup)
        work.task = self._group.create_task(self._keep(work), name=f"RPC server for {prepare.model}")
        return work

    async def _server(self, work: _Work) -> RpcServer:
        """Its server, once it runs. Raises EngineFailed when it does not in time."""
        try:
            async with asyncio.timeout(READY_WAIT_S):
                while work.server is None:
                    if self._works.get(work.place) is not work:
                        raise EngineFailed("the lease ended before the RPC server ran", retryable=True)
                    await self._changed.wait()
        except TimeoutError as error:
            raise EngineFailed(work.failure, retryable=True) from error
        return work.server

    async def _keep(self, work: _Work) -> None:
        """Hold its memory and run the server, until cancelled."""
        holder = f"{work.place.resource} of node {short(work.place.host)}"
        try:
            with self._workshop.reserved(holder, work.memory_bytes, work.makeup):
                await self._keep_running(work)
        except NoRoom as error:
            work.failure = str(error)
            logger.error("%s", error)

    async def _keep_running(self, work: _Work) -> None:
        """Run the server, again after each death, until cancelled."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                async with self._served(work) as server:
                    logger.info("computes a part of %s for node %s", work.place.resource, short(work.place.host))
                    work.failure = await server.ended()
            except EngineFailed as error:
                work.failure = str(error)
            logger.error("%s; starting it again in %.1f s", work.failure, backoff_s)
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)

    @contextlib.asynccontextmanager
    async def _served(self, work: _Work) -> AsyncIterator[RpcServer]:
        async with running_rpc_server(work.options, self._workshop.launcher) as server:
            work.server = server
            self._ring()
            try:
                yield server
            finally:
                work.server = None

    def _end_what_has_no_lease(self) -> None:
        covered = {_place(grant) for grant in self._leases.grants()}
        for place, work in list(self._works.items()):
            if place not in covered:
                self._end(work, "its lease has ended")

    def _end(self, work: _Work, reason: str) -> None:
        logger.info(
            "computes no part of %s for node %s any more: %s", work.place.resource, short(work.place.host), reason
        )
        del self._works[work.place]
        _stop(work)
        self._ring()

    def _ring(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def data_limit(memory_bytes: int) -> int:
    """What an RPC server may take in RAM for a part of that size: a tensor on its way is there three times."""
    return 3 * memory_bytes + SPARE_BYTES


def _file_name(prepare: Prepare) -> str:
    """The model as part of a file's name: its own name is the peer's to choose, and may hold slashes."""
    return prepare.fingerprint[:16]


def _place(grant: Grant) -> _Place:
    return _Place(grant.resource, grant.host, grant.term)


def _stop(work: _Work) -> None:
    if work.task is not None:
        work.task.cancel()
