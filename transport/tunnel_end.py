"""Moves the bytes of one end of a tunnel: between its pipe, its `Resumption`, and the stream that carries it now.

Both ends run the same; how each comes by the next stream after a loss is for `tunnel`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import assert_never

from transport.errors import MeshError, ProtocolError, ResetCode, StreamReset, TimedOut, Unreachable
from transport.identity import short
from transport.interface import Links, LinkState, NodeId, Record, RecordKind, Stream
from transport.pipe import Pipe
from transport.resumption import CHUNK_BYTES, DEFAULT_WINDOW_BYTES, Patience, Resumption, Verdict
from transport.tunnel_message import Ended, read_frame, to_record

logger = logging.getLogger("meshd.transport")

CHECK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class TunnelOptions:
    """window_bytes: kept at most, each way, at each end of a tunnel.  max_*: at once, waiting ones included."""

    window_bytes: int = DEFAULT_WINDOW_BYTES
    patience: Patience = field(default_factory=Patience)
    max_per_peer: int = 32
    max_served: int = 256
    max_carried: int = 256


Attach = Callable[[Resumption], Awaitable[Stream]]
"""Brings a stream to which the machine is attached. May raise MeshError; Unreachable makes for another try."""


class PipeBroken(MeshError):
    """The connection on this machine that a tunnel carries was reset, so the tunnel ended with it."""


class ServiceEnded(MeshError):
    """Who offered the service has withdrawn it, and its tunnels with it."""


class TunnelEnd:
    """One end of one tunnel. label: what errors and the log call it."""

    def __init__(self, pipe: Pipe, machine: Resumption, node: NodeId, links: Links, label: str) -> None:
        self._pipe = pipe
        self._machine = machine
        self._node = node
        self._links = links
        self._label = f"{label} with node {short(node)}"
        self._loop = asyncio.get_running_loop()
        self._stream: Stream | None = None
        self._is_interrupted = False
        self._failure: MeshError | None = None
        self._over = asyncio.Event()
        self._something_to_send = asyncio.Event()
        self._something_to_write = asyncio.Event()
        self._room_to_read = asyncio.Event()

    async def run(self, attach: Attach) -> None:
        """Carry bytes until both directions have ended; owns the pipe from now on.

        Raises Unreachable when the link was away for too long, TimedOut when nothing moved for too long, StreamReset
        when the far end gave up or its pipe broke, PipeBroken when ours did, ProtocolError; the pipe is reset then.
        """
        try:
            async with asyncio.TaskGroup() as group:
                work = (self._carry(attach), self._read_pipe(), self._write_pipe(), self._watch())
                tasks = [group.create_task(part, name=self._label) for part in work]
                try:
                    await self._over.wait()  # `_watch` is its deadline
                finally:
                    for task in tasks:
                        task.cancel()
        finally:
            self._let_go()
        if self._failure is not None:
            raise self._failure

    def interrupt(self) -> None:
        """Give up the present stream, if there is one, as if it were lost: the far end has brought another."""
        if self._stream is not None:
            self._is_interrupted = True
            self._stream.reset(ResetCode.CANCELLED)

    def stop(self, error: MeshError) -> None:
        """End the tunnel here: `run` raises `error`, unless everything was through already."""
        self._end(error)

    # The link side

    async def _carry(self, attach: Attach) -> None:
        try:
            while not await self._carry_once(attach):
                self._stream = None
                self._machine.detach(self._loop.time())
                self._judge()
                if self._over.is_set():
                    return
                logger.info("%s lost its stream and waits for another", self._label)
        except MeshError as error:
            self._end(error)
        else:
            self._stream = None
            self._end(None)

    async def _carry_once(self, attach: Attach) -> bool:
        """Carry the tunnel over one stream; False when that was lost before the end."""
        self._is_interrupted = False
        try:
            self._stream = await attach(self._machine)
            self._wake()
            await self._exchange(self._stream)
        except Unreachable:
            return False
        except StreamReset:
            if not self._is_interrupted:
                raise
            return False
        return True

    async def _exchange(self, stream: Stream) -> None:
        """Send and receive until both ends have finished the stream. Raises what the stream raises."""
        failure: MeshError | None = None
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send_frames(stream), name=f"{self._label}, sending")
            try:
                await self._receive_frames(stream)
                await sending
            except MeshError as error:
                failure = error
            finally:
                sending.cancel()
        if failure is not None:
            raise failure

    async def _send_frames(self, stream: Stream) -> None:
        try:
            while True:
                while (frame := self._machine.next_frame(self._loop.time())) is not None:
                    await stream.send(Record(RecordKind.DATA, frame) if isinstance(frame, bytes) else to_record(frame))
                if self._machine.is_done:
                    break
                self._something_to_send.clear()
                await self._something_to_send.wait()
            await stream.finish()
        except MeshError:
            return  # the receiving side meets the same failure and reports it

    async def _receive_frames(self, stream: Stream) -> None:
        while (record := await stream.receive()) is not None:
            self._machine.received(read_frame(record, self._node), self._loop.time())
            self._wake()
        if not self._machine.is_done:
            raise ProtocolError(f"{self._label}: expected the end of the stream only after that of the bytes")

    # The pipe side

    async def _read_pipe(self) -> None:
        replay = self._machine.replay
        try:
            while True:
                while not replay.room_bytes:
                    self._room_to_read.clear()
                    await self._room_to_read.wait()
                # No deadline: a connection may be idle for as long as it likes.
                data = await self._pipe.read(min(replay.room_bytes, CHUNK_BYTES))
                if not data:
                    break
                self._machine.read(data, self._loop.time())
                self._something_to_send.set()
            self._machine.read_end(self._loop.time())
            self._something_to_send.set()
        except OSError as error:
            self._pipe_broke(error)

    async def _write_pipe(self) -> None:
        machine = self._machine
        try:
            while True:
                match machine.arrivals.next():
                    case None:
                        self._something_to_write.clear()
                        await self._something_to_write.wait()
                    case Ended():
                        await self._pipe.finish()
                        machine.took_end(self._loop.time())
                        self._something_to_send.set()
                        return
                    case data:
                        count = await self._pipe.write(data)
                        machine.took(count, self._loop.time())
                        if machine.arrivals.is_worth_announcing:
                            self._something_to_send.set()
        except OSError as error:
            self._pipe_broke(error)

    def _pipe_broke(self, error: OSError) -> None:
        broken = PipeBroken(f"{self._label}: the local connection broke: {error}")
        broken.__cause__ = error
        self._end(broken)

    # Time and the end

    async def _watch(self) -> None:
        """The deadline of everything above."""
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            self._judge()
            self._something_to_send.set()  # an acknowledgement may be due

    def _judge(self) -> None:
        """End the tunnel when its time is up, or its peer is lost."""
        match self._machine.check(self._loop.time()):
            case Verdict.CUT:
                self._end(Unreachable(f"{self._label}: the link did not come back in time"))
            case Verdict.STALLED:
                self._end(TimedOut(f"{self._label}: nothing moved for too long while bytes waited"))
            case Verdict.FINE:
                # A stream that works is the better witness: news of links may be on its way to the board.
                if self._stream is None and self._links.state(self._node) in (LinkState.LOST, None):
                    self._end(Unreachable(f"{self._label}: the link is lost"))
            case verdict:
                assert_never(verdict)

    def _end(self, failure: MeshError | None) -> None:
        if not self._over.is_set():
            self._failure = None if self._machine.is_done else failure
            self._over.set()

    def _let_go(self) -> None:
        """Leave nothing behind: a whole tunnel is closed, anything else broken at both sides."""
        if self._stream is not None:
            self._stream.reset(_code_for(self._failure))
        if self._machine.is_done:
            self._pipe.close()
        else:
            self._pipe.abort()

    def _wake(self) -> None:
        self._room_to_read.set()
        self._something_to_send.set()
        self._something_to_write.set()


def _code_for(failure: MeshError | None) -> ResetCode:
    match failure:
        case TimedOut():
            return ResetCode.DEADLINE
        case ProtocolError():
            return ResetCode.PROTOCOL_ERROR
        case ServiceEnded():
            return ResetCode.SHUTDOWN
        case _:
            return ResetCode.CANCELLED
