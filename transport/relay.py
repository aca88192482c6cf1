"""Stands between UDP endpoints and makes the way bad, as `impairment` decides. For tests and demonstrations.

Clients send to the relay's address; it forwards to one upstream, from a socket of its own for each client, as a
NAT does, and carries the answers back. Needs no privilege. Impairs UDP only; tests/netns has a bridge for whole
Ethernet frames.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import socket
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any

from transport.address import format_address
from transport.errors import Unreachable
from transport.impairment import CLEAR, Conditions, Impairment, flip
from transport.interface import Address

MAX_WAITING_PACKETS = 16_384
"""On the way in one direction; what comes on top is lost. 24 MB of full packets: 1 GB/s for 20 ms."""

MAX_CLIENTS = 64
READS_PER_WAKE = 64
SOCKET_BUFFER_BYTES = 4 << 20
RESOLVE_S = 5.0

Send = Callable[[bytes], None]


class DelayLine:
    """One direction under way: asks the decider, waits, and sends. Lives on the running loop; `close` it."""

    def __init__(self, conditions: Conditions, dice: random.Random) -> None:
        self.impairment = Impairment(conditions, dice)
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[float, int, bytes, Send]] = []
        self._entered = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0  # uvloop's handles do not tell

    def carry(self, packet: bytes, send: Send) -> None:
        """Let `packet` enter now; `send` is called with what comes out, zero, one or two times."""
        now = self._loop.time()
        for delivery in self.impairment.apply(now, len(packet)):
            arriving = packet if delivery.damaged_bit is None else flip(packet, delivery.damaged_bit)
            if delivery.at <= now and not self._waiting:
                send(arriving)
            elif len(self._waiting) < MAX_WAITING_PACKETS:
                self._wait_until(delivery.at, arriving, send)
            else:
                self.impairment.dropped["overflow"] += 1

    def change(self, conditions: Conditions) -> None:
        """Be like this from now on; what is under way arrives as it was decided."""
        self.impairment.conditions = conditions

    def cut(self) -> None:
        """Let nothing through until `mend`; what is under way is lost too."""
        self.impairment.is_cut = True
        self.impairment.dropped["cut"] += len(self._waiting)
        self.close()

    def mend(self) -> None:
        """Undo `cut`. The conditions are what they were."""
        self.impairment.is_cut = False

    def close(self) -> None:
        """Forget what is under way."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait_until(self, at: float, packet: bytes, send: Send) -> None:
        self._entered += 1  # equal times leave in the order they entered
        heapq.heappush(self._waiting, (at, self._entered, packet, send))
        if self._timer is None or at < self._timer_at:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            self._timer_at = self._waiting[0][0]
            self._timer = self._loop.call_at(self._timer_at, self._release)

    def _release(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._waiting and self._waiting[0][0] <= now:
            _, _, packet, send = heapq.heappop(self._waiting)
            send(packet)
        self._arm()


class UdpRelay:
    """A bad way to `upstream`. Use as `async with`; then point clients at `address`.

    there, back: towards upstream, and from it; `.change`, `.cut` and `.mend` each, also alone.
    counters: "unsent" (a socket would not take it), "evicted" (clients beyond `max_clients`, the one idle longest).
    """

    there: DelayLine
    back: DelayLine

    def __init__(
        self,
        upstream: Address,
        there: Conditions = CLEAR,
        back: Conditions = CLEAR,
        *,
        seed: int = 0,
        bind: Address | None = None,
        max_clients: int = MAX_CLIENTS,
    ) -> None:
        self.upstream = upstream
        self._conditions = (there, back)
        self._seed = seed
        self._bind = bind
        self._max_clients = max_clients
        self._clients: dict[Any, _Client] = {}
        self.counters: Counter[str] = Counter()

    async def __aenter__(self) -> UdpRelay:
        self._loop = asyncio.get_running_loop()
        self._family, self._target = await self._resolve(self.upstream)
        there, back = self._conditions
        self.there = DelayLine(there, random.Random(f"{self._seed} there"))
        self.back = DelayLine(back, random.Random(f"{self._seed} back"))
        self._socket = self._open()
        try:
            self._socket.bind(await self._place())
            self._loop.add_reader(self._socket, self._read)
        except BaseException:
            self._socket.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.there.close()
        self.back.close()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self.rebind()

    @property
    def address(self) -> Address:
        """Where clients send to."""
        host, port = self._socket.getsockname()[:2]
        return Address(host, port)

    @property
    def clients(self) -> int:
        """How many clients have a way through now."""
        return len(self._clients)

    def cut(self) -> None:
        """Cut both directions."""
        self.there.cut()
        self.back.cut()

    def mend(self) -> None:
        """Mend both directions."""
        self.there.mend()
        self.back.mend()

    def rebind(self) -> None:
        """Forget every client's way, as a NAT that restarts: upstream sees each from a new port afterwards."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    async def _place(self) -> Any:
        if self._bind is None:
            return ("::1" if self._family == socket.AF_INET6 else "127.0.0.1", 0)
        return (await self._resolve(self._bind))[1]

    async def _resolve(self, address: Address) -> tuple[int, Any]:
        try:
            async with asyncio.timeout(RESOLVE_S):
                entries = await self._loop.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
        except (OSError, TimeoutError) as error:
            raise Unreachable(f"the relay cannot resolve {format_address(address)}: {error}") from error
        return entries[0][0], entries[0][4]

    def _open(self) -> socket.socket:
        opened = socket.socket(self._family, socket.SOCK_DGRAM)
        opened.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            opened.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
        return opened

    def _read(self) -> None:
        for _ in range(READS_PER_WAKE):
            try:
                packet, source = self._socket.recvfrom(65_536)
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # the kernel reports that an earlier answer found nobody
            self.there.carry(packet, self._client(source).send)

    def _client(self, source: Any) -> _Client:
        """The way of the client at `source`, which becomes the one used last."""
        client = self._clients.pop(source, None)
        if client is None:
            if len(self._clients) >= self._max_clients:
                self._clients.pop(next(iter(self._clients))).close()
                self.counters["evicted"] += 1
            client = _Client(self, source)
        self._clients[source] = client
        return client

    @property
    def target(self) -> Any:
        """Upstream, as sockets spell it."""
        return self._target

    def new_socket(self) -> socket.socket:
        """To talk to upstream with.

        Not connected: the kernel would report on it when nobody listens there, after which libuv, so uvloop, never
        reads it again.
        """
        return self._open()

    def answer(self, packet: bytes, client: Any) -> None:
        """Send `packet` to a client from the address it knows."""
        try:
            self._socket.sendto(packet, client)
        except OSError:
            self.counters["unsent"] += 1


class _Client:
    """One client's socket towards upstream."""

    def __init__(self, relay: UdpRelay, source: Any) -> None:
        self._relay = relay
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._socket = relay.new_socket()
        self._socket.bind(("", 0))
        self._is_open = True
        self._loop.add_reader(self._socket, self._read)

    def send(self, packet: bytes) -> None:
        if not self._is_open:  # it was delayed longer than its client lived
            self._relay.counters["unsent"] += 1
            return
        try:
            self._socket.sendto(packet, self._relay.target)
        except OSError:  # full, or there is no way upstream: lost, as on any network
            self._relay.counters["unsent"] += 1

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _read(self) -> None:
        for _ in range(READS_PER_WAKE):
            try:
                packet, source = self._socket.recvfrom(65_536)
            except BlockingIOError:
                return
            if source != self._relay.target:
                continue  # not an answer
            self._relay.back.carry(packet, self._answer)
            if not self._is_open:
                return

    def _answer(self, packet: bytes) -> None:
        self._relay.answer(packet, self._source)
