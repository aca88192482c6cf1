"""Every bulk lane of one endpoint: opens one when a stream first wants it, and stops trying where it cannot.

A lane belongs to one QUIC connection (`Control`) and ends with it. While there is none, or none in time, the caller
opens its stream over QUIC instead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Any, Protocol

from transport.bulk.connection import LaneConnection
from transport.bulk.door import Door
from transport.bulk.lane import Lane, LaneUses
from transport.bulk.message import PROTOCOL, Dialled, DialMe, Want, read_dialled, read_grant, read_wish, to_record
from transport.bulk.pinning import LaneIdentity
from transport.errors import MeshError, ProtocolError, Refused, ResetCode, StreamReset, Unreachable
from transport.identity import short
from transport.interface import Address, Peer, Role, Stream, StreamHeader
from transport.windows import Windows

logger = logging.getLogger("meshd.transport")

ATTEMPT_S = 5.0
WAIT_S = 1.5
"""At most so long a stream waits for its lane before it goes over QUIC: four round trips of a bad link."""

FIRST_PAUSE_S = 10.0
LONGEST_PAUSE_S = 600.0
MAX_WISHES = 4
"""`bulk/1` streams of one connection at once."""

_NEVER = frozenset((ResetCode.UNKNOWN_PROTOCOL, ResetCode.FORBIDDEN))
"""Answers that stay the same while the connection lasts."""


class Control(Protocol):
    """The QUIC connection beside a lane."""

    @property
    def peer(self) -> Peer: ...
    @property
    def address(self) -> Address: ...
    @property
    def is_dialled_here(self) -> bool: ...
    @property
    def ended(self) -> asyncio.Event: ...
    async def open(self, header: StreamHeader) -> Stream: ...


@dataclass(slots=True, eq=False)
class _Pairing:
    """What is known of the lane beside one connection. settled: no attempt is in progress."""

    control: Control
    lane: Lane | None = None
    is_trying: bool = False
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    retry_at: float = 0.0
    failures: int = 0
    wishes: int = 0


class BulkLanes:
    """Use as `async with`. Raises OSError there when TCP can have no port at `bind`.

    stream_arrived: gets the streams that peers open.  windows: theirs.
    """

    def __init__(
        self,
        identity: LaneIdentity,
        bind: Address,
        stream_arrived: Callable[[Stream], None],
        windows: Windows,
    ) -> None:
        self._identity = identity
        self._bind = bind
        self._uses = LaneUses(stream_arrived, windows, self._lane_lost)
        self._pairings: dict[Control, _Pairing] = {}
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self._door: Door[Control]

    async def __aenter__(self) -> BulkLanes:
        self._door = Door(self._identity, self._bind, lambda control, made: self._attach(control, made, False))
        await self._group.__aenter__()
        self._spawn(self._door.accept_all(self._spawn), "accept bulk lanes")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop("shutting down")
        try:
            # The group is told of cancellation only: what else ends the block leaves it as itself, not in a group.
            if isinstance(error, asyncio.CancelledError):
                await self._group.__aexit__(kind, error, trace)
            else:
                await self._group.__aexit__(None, None, None)
        finally:
            self._door.close()

    def vanish(self) -> None:
        """Close the sockets without a word, as the death of this process would. For tests of what peers make of it."""
        self._stop("vanished")
        self._door.close()

    def _stop(self, reason: str) -> None:
        for pairing in self._pairings.values():
            if pairing.lane is not None:
                pairing.lane.close(reason)
        for task in self._tasks:
            task.cancel()

    @property
    def port(self) -> int:
        """Where lanes are met."""
        return self._door.port

    @property
    def strangers(self) -> int:
        """TCP connections that were refused."""
        return self._door.strangers

    def lane(self, control: Control) -> Lane | None:
        """The lane beside `control`, when there is one."""
        pairing = self._pairings.get(control)
        return pairing.lane if pairing else None

    async def open(self, control: Control, header: StreamHeader) -> Stream | None:
        """A stream on the lane beside `control`; None when there is no lane and none comes in time."""
        if control.peer.role is Role.CLIENT:
            return None
        lane = await self._lane_within(self._pairing(control), WAIT_S)
        if lane is None:
            return None
        try:
            return await lane.open(header)
        except Unreachable:
            return None

    def wish_arrived(self, control: Control, stream: Stream) -> None:
        """Serve a `bulk/1` stream that came over `control`."""
        if stream.peer.role is Role.CLIENT:
            stream.reset(ResetCode.FORBIDDEN)
            return
        pairing = self._pairing(control)
        if pairing.wishes >= MAX_WISHES:
            stream.reset(ResetCode.BUSY)
            return
        pairing.wishes += 1
        self._spawn(self._serve(pairing, stream), f"bulk wish of {short(stream.peer.node)}")

    # What is known of each connection

    def _pairing(self, control: Control) -> _Pairing:
        pairing = self._pairings.get(control)
        if pairing is None:
            pairing = self._pairings[control] = _Pairing(control)
            self._spawn(self._follow(pairing), f"bulk lane with {short(control.peer.node)}")
        return pairing

    async def _follow(self, pairing: _Pairing) -> None:
        """End with the connection. It has no deadline: connections stay as long as they like."""
        await pairing.control.ended.wait()
        self._door.withdraw(pairing.control)
        del self._pairings[pairing.control]
        if pairing.lane is not None:
            pairing.lane.close("its QUIC connection ended")
            pairing.lane = None

    def _attach(self, control: Control, connection: LaneConnection, is_dialled_here: bool) -> Lane:
        if control.ended.is_set():
            raise Unreachable("the QUIC connection beside this lane has ended")
        pairing = self._pairing(control)
        if pairing.lane is not None:
            pairing.lane.close("replaced by another lane")  # which the peer would not have opened beside a good one
        pairing.lane = Lane(connection, control.peer, is_dialled_here, self._uses)
        pairing.failures = 0
        pairing.settled.set()
        logger.info("bulk lane with node %s: open", short(control.peer.node))
        return pairing.lane

    def _lane_lost(self, lane: Lane, reason: str) -> None:
        for pairing in self._pairings.values():
            if pairing.lane is lane:
                pairing.lane = None
                self._pause(pairing, reason)

    # Getting a lane

    async def _lane_within(self, pairing: _Pairing, wait_s: float) -> Lane | None:
        if pairing.lane is None and self._try(pairing):
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await pairing.settled.wait()
        return pairing.lane

    def _try(self, pairing: _Pairing) -> bool:
        """See to it that somebody tries, unless it is too early to try again; whether somebody does."""
        if pairing.is_trying:
            return True
        if monotonic() < pairing.retry_at or pairing.control.ended.is_set():
            return False
        pairing.is_trying = True
        pairing.settled.clear()
        self._spawn(self._attempt(pairing), f"open a bulk lane to {short(pairing.control.peer.node)}")
        return True

    async def _attempt(self, pairing: _Pairing) -> None:
        try:
            async with asyncio.timeout(ATTEMPT_S):
                if pairing.control.is_dialled_here:
                    await self._dial(pairing.control)
                else:
                    await self._ask_to_be_dialled(pairing)
        except StreamReset as reset:
            self._pause(pairing, str(reset), for_ever=reset.code in _NEVER)
        except (MeshError, OSError) as error:
            self._pause(pairing, str(error) or type(error).__name__)
        finally:
            pairing.is_trying = False
            pairing.settled.set()

    async def _dial(self, control: Control) -> None:
        node = control.peer.node
        stream = await control.open(StreamHeader(PROTOCOL, ""))
        try:
            await stream.send(to_record(self._door.want()))
            await stream.finish()
            grant = read_grant(await stream.receive(), node)
        except BaseException:
            stream.reset(ResetCode.CANCELLED)
            raise
        await self._door.dial(control.address.host, node, grant, lambda made: self._attach(control, made, True))

    async def _ask_to_be_dialled(self, pairing: _Pairing) -> None:
        stream = await pairing.control.open(StreamHeader(PROTOCOL, ""))
        try:
            await stream.send(to_record(DialMe()))
            await stream.finish()
            read_dialled(await stream.receive(), pairing.control.peer.node)
        except BaseException:
            stream.reset(ResetCode.CANCELLED)
            raise
        if pairing.lane is None:
            raise Unreachable("the peer has a lane with us that has ended here")

    def _pause(self, pairing: _Pairing, reason: str, *, for_ever: bool = False) -> None:
        """Leave the next streams to QUIC for a while, twice as long each time."""
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(pairing.failures, 16))
        pairing.failures += 1
        pairing.retry_at = float("inf") if for_ever else monotonic() + pause_s
        until = "while this connection lasts" if for_ever else f"for {pause_s:.0f} s"
        node = short(pairing.control.peer.node)
        logger.info("no bulk lane with node %s, QUIC carries everything %s: %s", node, until, reason)

    # Helping a peer to one

    async def _serve(self, pairing: _Pairing, stream: Stream) -> None:
        try:
            async with asyncio.timeout(ATTEMPT_S):
                await self._answer(pairing, stream)
        except ProtocolError as error:
            logger.warning("peer %s broke the protocol: %s", short(stream.peer.node), error)
            stream.reset(ResetCode.PROTOCOL_ERROR)
        except (Refused, TimeoutError):
            stream.reset(ResetCode.BUSY)
        except MeshError as error:
            logger.debug("a bulk wish of %s came to nothing: %s", short(stream.peer.node), error)
            stream.reset(ResetCode.CANCELLED)
        except BaseException:
            stream.reset(ResetCode.SHUTDOWN)
            raise
        finally:
            pairing.wishes -= 1

    async def _answer(self, pairing: _Pairing, stream: Stream) -> None:
        control, node = pairing.control, stream.peer.node
        wish = read_wish(await stream.receive(), node)
        if isinstance(wish, Want) is control.is_dialled_here:
            raise ProtocolError(
                f"expected the end that dialled to dial the lane too, node {short(node)} asks otherwise"
            )
        match wish:
            case Want():
                grant = self._door.grant(control, node, control.address.host, wish)
                await stream.send(to_record(grant))
            case DialMe():
                if await self._lane_within(pairing, ATTEMPT_S) is None:
                    raise Unreachable("no lane could be opened from here")
                await stream.send(to_record(Dialled()))
        await stream.finish()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
