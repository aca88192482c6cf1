"""Nodes that compute forms for one another, in one process: real forms and real streams, times of our choosing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from forms.announce import announce
from forms.catalogue import Catalogue, shipped
from forms.computed import Computed
from forms.errors import WorkerLost
from forms.evaluate import Evaluator
from forms.foreign import ForeignWorker
from forms.forms_fact import read_forms
from forms.here import Here
from forms.mesh_door import MeshDoor
from forms.operations import Health, Operations
from forms.outlook import Outlook
from forms.probes import probes
from forms.request import Request
from forms.session import Session
from forms.worker_pipe import TEXT
from gossip.view import NodeView, Status, View
from transport.errors import ProtocolError, StreamReset, Unreachable
from transport.interface import LinkState, NodeId, Role
from transport.memory import MemoryNetwork, MemoryTransport

PER_WORK_S = 1e-5
BASE_S = 2e-4


def sorts(catalogue: Catalogue) -> Iterator[Request]:
    """The probes of one form, which are quick to compute."""
    return (probe for probe in probes(catalogue) if probe.head in ("BSRT", "cuda-radix-sort"))


@dataclass
class Throttled:
    """Computes in order, each call in `slowness` · (base + per_work · work) seconds of the loop's time."""

    evaluator: Evaluator
    slowness: float = 1.0
    is_lost: bool = False
    computed: list[bytes] = field(default_factory=list)
    begun: int = 0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def compute(self, kind: int, request: bytes, deadline_s: float) -> Computed:
        async with self._turn:
            self.begun += 1
            if self.is_lost:
                raise WorkerLost("the worker died while computing this call")
            done = self.evaluator.text(request) if kind == TEXT else self.evaluator.frame(request)
            seconds = self.slowness * (BASE_S + PER_WORK_S * done.work)
            await asyncio.sleep(seconds)
            self.computed.append(request)
            return replace(done, seconds=seconds, is_cold=False)


@dataclass
class Node:
    """One node: what computes, what chooses, what answers peers."""

    name: str
    transport: MemoryTransport
    worker: Throttled
    session: Session
    operations: Operations
    door: MeshDoor
    facts: dict[str, bytes] = field(default_factory=dict)
    offences: list[ProtocolError] = field(default_factory=list)

    @property
    def id(self) -> NodeId:
        return self.transport.node

    @property
    def is_measured(self) -> bool:
        return read_forms(self.seen()).is_warm

    def seen(self, rtt_ms: float | None = 1.0) -> NodeView:
        role = Role.MEMBER
        return NodeView(self.id, self.name, role, Status.ALIVE, 1, 0, (), dict(self.facts), rtt_ms, True, 60.0)

    async def bend(self, text: str) -> str:
        return (await self.operations.answer_text(f"(bend {text})".encode())).decode().strip()


async def serve(node: Node) -> None:
    """Answer peers as `meshd.dispatch` does."""
    async with asyncio.TaskGroup() as group:
        async for stream in node.transport.streams():
            group.create_task(_fenced(node, stream), name="form/1")


async def _fenced(node: Node, stream: object) -> None:
    try:
        await node.door.serve(stream)  # type: ignore[arg-type]
    except ProtocolError as error:
        node.offences.append(error)
    except (StreamReset, Unreachable):
        return


@asynccontextmanager
async def nodes(
    *slowness: float,
    foreign: Sequence[ForeignWorker] = (),
    role: Role = Role.MEMBER,
    catalogue: Catalogue | None = None,
) -> AsyncIterator[list[Node]]:
    """As many linked nodes; the first one asks. role: its own."""
    network = MemoryNetwork(delay_s=0.0005)
    made: list[Node] = []

    def see(number: int) -> Callable[[], View]:
        return lambda: View(1, (made[number].seen(None), *(one.seen() for one in made if one is not made[number])))

    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        for number, slow in enumerate(slowness):
            transport = await stack.enter_async_context(
                network.transport(NodeId(bytes([number + 1]) * 32), role=role if number == 0 else Role.MEMBER)
            )
            worker = Throttled(Evaluator(catalogue or shipped()), slow)
            here = Here(catalogue or shipped(), worker, probes=sorts, clock=loop.time)
            outlook, keys = Outlook(tuple(one.address for one in foreign)), {one.address: one.key for one in foreign}
            session = Session(here, transport, see(number), outlook, keys=keys, clock=loop.time)
            operations = Operations(here, lambda: Health(0.42, 0, 1), session)
            made.append(Node(f"n{number + 1}", transport, worker, session, operations, MeshDoor(operations)))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks = [group.create_task(serve(node), name="serve") for node in made]
        for node in made:
            tasks.append(group.create_task(node.session.here.run(), name="cost"))
            tasks.append(group.create_task(node.session.run(), name="elsewhere"))
            tasks.append(group.create_task(announce(node.session.here, node.facts.__setitem__), name="announce"))
            for other in made:
                if other is not node:
                    node.transport.keep(other.id, other.transport.addresses)
        await until(lambda: all(len(connected(node)) == len(made) - 1 for node in made))
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()


def connected(node: Node) -> list[NodeId]:
    return [link.node for link in node.transport.links() if link.state is LinkState.CONNECTED]


async def until(holds: Callable[[], bool], timeout_s: float = 600.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - made of parts that have nothing in common to wait for
            await asyncio.sleep(0.05)


async def measured(made: Sequence[Node]) -> None:
    """Have every node say what its forms cost."""
    for node in made:
        node.session.here.measure_soon()
    await until(lambda: all(node.is_measured for node in made))
    for node in made:
        node.worker.computed.clear()


def sort_call(count: int, first: int = 0) -> str:
    """A call of so many numbers."""
    return f"(cuda-radix-sort '({' '.join(str(count + first - place) for place in range(count))}))"


def sorted_reply(count: int, first: int = 0) -> str:
    return f"(ok ({' '.join(str(first + place + 1) for place in range(count))}))"


def request(text: str) -> Request:
    return Request(True, text.encode())


async def within(seconds: float, work: asyncio.Task[str]) -> bool:
    """Whether it is done by then."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.shield(work)
    return work.done()
