"""Drives the engine: carries its datagrams and exchanges, wakes it in time, and shows its view.

What it decides is the engine's business; how bytes travel is the transport's. Every exchange is bounded in
records and time, and what a peer does wrong ends that exchange only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping

from gossip.addressbook import AddressBook
from gossip.engine import Engine
from gossip.event import (
    Connected,
    Disconnected,
    Doubt,
    Drop,
    Effect,
    Event,
    Hint,
    Keep,
    Leave,
    LocalUpdate,
    Moved,
    Notify,
    Persist,
    RaiseBoot,
    Received,
    Recertified,
    Recheck,
    ReliableReceived,
    Reply,
    Seed,
    SendDatagram,
    SendReliable,
    Tick,
)
from gossip.view import View
from transport.errors import MeshError, ProtocolError, ResetCode
from transport.identity import short
from transport.interface import (
    Address,
    DatagramReceived,
    LinkChanged,
    LinkState,
    NodeId,
    Record,
    RecordKind,
    Stream,
    StreamHeader,
    Transport,
    TransportEvent,
)

logger = logging.getLogger("meshd.gossip")

PROTOCOL = "gossip/1"
EXCHANGE_S = 10.0
MAX_RECORDS = 128
"""Of one exchange, each way: twice what `exchange` sends at most."""

MAX_EXCHANGES = 64
"""Started here and under way; another is left out, and the engine asks again in its own time."""

VIEW_AGE_S = 0.25
BOOK_DELAY_S = 1.0


def boot_is_kept(boot: int) -> None:
    """What to do with a raised boot where nobody keeps one: say so."""
    logger.warning("this node was in the mesh before, with a later boot; the next start must exceed %d", boot)


def no_doubt(node: NodeId, reason: str) -> None:
    """For a transport that finds out by itself."""


class GossipRunner:
    """Owns the tasks of gossip. `run` them in one group; everything else may be called before it starts too.

    clock: the one that `engine` was made with.  on_doubt: told of a linked peer that counts as dead, for the
    transport to reconnect.  on_raise_boot: told the boot this node had to take, for the agent to keep.
    """

    def __init__(
        self,
        transport: Transport,
        engine: Engine,
        book: AddressBook | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_doubt: Callable[[NodeId, str], None] = no_doubt,
        on_raise_boot: Callable[[int], None] = boot_is_kept,
    ) -> None:
        self._transport = transport
        self._engine = engine
        self._book = book
        self._clock = clock
        self._on_doubt = on_doubt
        self._on_raise_boot = on_raise_boot
        self._group: asyncio.TaskGroup | None = None
        self._exchanges: dict[asyncio.Task[None], NodeId] = {}
        self._early: list[Effect] = []
        self._sleeps_until = float("-inf")
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._places: tuple[tuple[NodeId, tuple[Address, ...]], ...] = ()
        self._book_is_stale = asyncio.Event()
        self._view: View | None = None
        self._view_made_at = 0.0
        self.counters: Counter[str] = Counter()

    # -- for the layers above

    @property
    def view(self) -> View:
        """The mesh as it is now. Its version grows when something changed; ages and round trips are fresh."""
        now = self._clock()
        view = self._view
        if view is None or view.version != self._engine.version or now - self._view_made_at > VIEW_AGE_S:
            round_trips = {link.node: link.rtt_ms for link in self._transport.links() if link.rtt_ms is not None}
            view = self._view = self._engine.view(now, round_trips)
            self._view_made_at = now
        return view

    @property
    def engine_counters(self) -> Mapping[str, int]:
        """What the engine refused or could not judge, by kind; `counters` has the exchanges."""
        return self._engine.counters

    @property
    def all_counters(self) -> dict[str, int]:
        """Of the engine and of the exchanges, for status."""
        return dict(sorted({**self._engine.counters, **self.counters}.items()))

    def is_certified(self, node: NodeId) -> bool:
        """Whether `node` is a member whose latest certificate counts now."""
        return self._engine.is_certified(node)

    async def changed(self, after_version: int) -> View:
        """The first view later than `after_version`, at once when there is one already."""
        while self._engine.version <= after_version:
            await self._changed.wait()
        return self.view

    def publish(self, key: str, value: bytes, *, is_urgent: bool = False, is_quiet: bool = False) -> None:
        """Say something about this node; empty withdraws it. Often repeated changes are merged, but for urgent ones.

        is_quiet: a change too small to be told around; it is seen when nodes compare notes, every ten seconds.
        ValueError when it breaks a bound of `gossip.facts`.
        """
        self._tell(LocalUpdate(key, value, is_urgent, is_quiet))

    def hint(self, node: NodeId, reason: str) -> None:
        """Something that used `node` failed: ask at once whether it is there."""
        self._tell(Hint(node, reason))

    def seed(self, places: Iterable[tuple[NodeId, tuple[Address, ...]]]) -> None:
        """Say where nodes of this mesh may be found, as a join or a configuration knows them."""
        for node, addresses in places:
            self._tell(Seed(node, addresses))

    def move(self, addresses: tuple[Address, ...]) -> None:
        """Tell the mesh that this node is now found elsewhere."""
        self._tell(Moved(addresses))

    def recertify(self, certificate: bytes, serial: bytes) -> None:
        """Show the mesh this node's newer certificate."""
        self._tell(Recertified(certificate, serial))

    def recheck(self) -> None:
        """Forget members that have been revoked; to be said whenever somebody was."""
        self._tell(Recheck())

    async def leave(self, deadline_s: float = 2.0) -> None:
        """Say farewell for good: to everyone once, to a few until they have heard it or time is up."""
        before = dict(self._exchanges)
        self._tell(Leave())
        farewells = [task for task in self._exchanges if task not in before]
        if farewells:
            await asyncio.wait(farewells, timeout=deadline_s)

    async def run(self) -> None:
        """Gossip until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                if self._book is not None:
                    self.seed((await asyncio.to_thread(self._book.load)).items())
                early, self._early = self._early, []
                self._perform_all(early)
                group.create_task(self._keep_time(), name="gossip clock")
                group.create_task(self._take_events(), name="gossip events")
                group.create_task(self._write_book(), name="gossip address book")
        finally:
            self._group = None

    async def serve(self, stream: Stream) -> None:
        """Answer one `gossip/1` stream that a peer opened. Raises MeshError for what goes wrong with it."""
        try:
            async with asyncio.timeout(EXCHANGE_S):
                is_first = True
                async for payload in _messages(stream):
                    replies = self._receive(stream, payload)
                    if is_first:
                        await _send_all(stream, replies)
                        await stream.finish()
                    is_first = False
        except TimeoutError:
            self.counters["exchange_timed_out"] += 1
            stream.reset(ResetCode.DEADLINE)
        except BaseException:
            stream.reset(ResetCode.CANCELLED)
            raise

    # -- events in

    def _tell(self, event: Event) -> list[Effect]:
        effects = self._engine.handle(self._clock(), event)
        if self._group is None:
            self._early.extend(effects)
        else:
            self._perform_all(effects)
        return effects

    def _receive(self, stream: Stream, payload: bytes) -> list[bytes]:
        effects = self._tell(ReliableReceived(stream.peer, payload))
        return [effect.payload for effect in effects if isinstance(effect, Reply)]

    async def _keep_time(self) -> None:
        while True:
            now = self._clock()
            deadline = self._engine.next_deadline
            if deadline <= now:
                self._tell(Tick())
                await asyncio.sleep(0)
                continue
            self._wake.clear()
            self._sleeps_until = deadline
            try:
                async with asyncio.timeout(deadline - now):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _take_events(self) -> None:
        async for event in self._transport.events():
            self._take_event(event)

    def _take_event(self, event: TransportEvent) -> None:
        match event:
            case DatagramReceived(node, payload):
                self._tell(Received(node, payload))
            case LinkChanged(_, LinkState.CONNECTED, peer) if peer is not None:
                self._tell(Connected(peer))
            case LinkChanged(node, LinkState.RECONNECTING | LinkState.LOST as state, _, _, reason):
                self._tell(Disconnected(node, reason, state is LinkState.LOST))

    # -- effects out

    def _perform_all(self, effects: list[Effect]) -> None:
        for effect in effects:
            self._perform(effect)
        if self._engine.next_deadline < self._sleeps_until:
            self._wake.set()

    def _perform(self, effect: Effect) -> None:
        match effect:
            case SendDatagram(peer, payload):
                self._transport.send_datagram(peer, payload)
            case SendReliable(peer, payload):
                self._start_exchange(peer, payload)
            case Keep(node, addresses):
                self._transport.keep(node, addresses)
            case Drop(node, reason):
                self._transport.drop(node, reason)
            case Doubt(node, reason):
                self._on_doubt(node, reason)
            case Persist(places):
                self._places = places
                self._book_is_stale.set()
            case RaiseBoot(boot):
                self._on_raise_boot(boot)
            case Notify():
                self._changed.set()
                self._changed = asyncio.Event()
            case Reply():
                pass  # `_receive` sends these on the stream they belong to

    def _start_exchange(self, peer: NodeId, payload: bytes) -> None:
        if self._group is None or len(self._exchanges) >= MAX_EXCHANGES:
            self.counters["exchange_left_out"] += 1
            return
        task = self._group.create_task(self._exchange(peer, payload), name=f"gossip with {short(peer)}")
        self._exchanges[task] = peer
        task.add_done_callback(self._exchanges.pop)

    async def _exchange(self, peer: NodeId, payload: bytes) -> None:
        """Send one message on a stream of its own and feed the engine what comes back."""
        try:
            async with asyncio.timeout(EXCHANGE_S):
                await self._converse(peer, payload)
        except TimeoutError:
            self.counters["exchange_timed_out"] += 1
        except ProtocolError as error:
            self.counters["exchange_refused"] += 1
            logger.warning("gossip with %s broke the protocol: %s", short(peer), error)
        except MeshError as error:
            self.counters["exchange_failed"] += 1
            logger.debug("gossip with %s failed: %s", short(peer), error)

    async def _converse(self, peer: NodeId, payload: bytes) -> None:
        header = StreamHeader(PROTOCOL, "", int(EXCHANGE_S * 1000))
        stream = await self._transport.open(peer, header)
        try:
            await _send_all(stream, [payload])
            async for answer in _messages(stream):
                await _send_all(stream, self._receive(stream, answer))
            await stream.finish()
        except BaseException:
            stream.reset(ResetCode.CANCELLED)
            raise

    # -- the address book

    async def _write_book(self) -> None:
        if self._book is None:
            return
        try:
            while True:
                await self._book_is_stale.wait()
                await asyncio.sleep(BOOK_DELAY_S)
                self._book_is_stale.clear()
                await asyncio.to_thread(self._save_book, self._book, dict(self._places), self._present())
        finally:
            if self._book_is_stale.is_set():
                self._save_book(self._book, dict(self._places), self._present())

    def _present(self) -> list[NodeId]:
        return [entry.node for entry in self.view.nodes if entry.is_usable]

    def _save_book(self, book: AddressBook, places: dict[NodeId, tuple[Address, ...]], present: list[NodeId]) -> None:
        try:
            book.save(places, present)
        except OSError as error:
            logger.warning("cannot write the address book: %s; a restart will need an introducer", error)


async def _send_all(stream: Stream, payloads: list[bytes]) -> None:
    for payload in payloads:
        await stream.send(Record(RecordKind.MESSAGE, payload))


async def _messages(stream: Stream) -> AsyncIterator[bytes]:
    """The messages of a stream until the peer has finished. Raises ProtocolError for anything else."""
    for _ in range(MAX_RECORDS):
        record = await stream.receive()
        if record is None:
            return
        if record.kind is not RecordKind.MESSAGE:
            raise ProtocolError(f"expected a gossip message, got {record.kind.name} from {short(stream.peer.node)}")
        yield record.payload
    raise ProtocolError(f"node {short(stream.peer.node)} sent more than {MAX_RECORDS} messages in one exchange")
