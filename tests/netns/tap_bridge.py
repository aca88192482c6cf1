"""A wire between two namespaces that can be made bad: user space carries every Ethernet frame across.

Each end is a TAP device; frames read on one side go through the decider that the UDP relay uses, and are written
on the other. So ARP, ICMP, TCP and multicast are impaired alike, and addresses stay what they are. It runs on a
thread and loop of its own: tests may block, and await, as they like.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import random
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import cache, partial
from typing import TypeVar

from tests.netns.namespaces import Namespace, host
from transport.impairment import CLEAR, Conditions
from transport.relay import READS_PER_WAKE, DelayLine

T = TypeVar("T")

_DEVICE = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_IFF_TAP_NO_PI = 0x0002 | 0x1000
_LOST = {errno.EAGAIN, errno.EIO}
"""A device that is full, or not up yet, loses frames as a real one does."""

_MAX_FRAME_BYTES = 65_536
_PATIENCE_S = 60.0


@cache
def why_not() -> str | None:
    """Why no TAP device can be opened here; None when one can."""
    try:
        os.close(os.open(_DEVICE, os.O_RDWR))
    except OSError as error:
        return f"{_DEVICE} cannot be opened: {error}"
    return None


class TapBridge:
    """The wire. there: from the first host to the second.  back: the other direction.

    Every method may be called from any thread, and has taken effect when it returns.
    """

    def __init__(self, first: int, second: int, seed: int) -> None:
        """first, second: descriptors of the TAP devices, not blocking; they stay the caller's."""
        self._ends = (first, second)
        self._seed = seed
        self._is_running = threading.Event()
        self._failures: list[str] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="tap bridge")

    def start(self) -> None:
        """Carry frames until `stop`."""
        self._thread.start()
        assert self._is_running.wait(_PATIENCE_S), "the bridge's thread did not start"

    def stop(self) -> None:
        """Carry nothing any more; the thread has ended on return. What failed on it fails here."""
        self._call(self._ended.set)
        self._thread.join(_PATIENCE_S)
        assert not self._failures, "\n".join(self._failures)

    def change(self, there: Conditions | None = None, back: Conditions | None = None) -> None:
        """Make either direction good or bad; None leaves it as it is."""
        for line, conditions in ((self._there, there), (self._back, back)):
            if conditions is not None:
                self._call(partial(line.change, conditions))

    def cut(self, *, there: bool = True, back: bool = True) -> None:
        """Let nothing through, in one direction or both; what is under way is lost."""
        for line in self._lines(there, back):
            self._call(line.cut)

    def mend(self, *, there: bool = True, back: bool = True) -> None:
        """Undo `cut`."""
        for line in self._lines(there, back):
            self._call(line.mend)

    def passed(self) -> tuple[int, int]:
        """Frames let through so far, there and back."""
        return self._call(lambda: (self._there.impairment.passed, self._back.impairment.passed))

    def dropped(self) -> tuple[Counter[str], Counter[str]]:
        """Frames lost so far by cause, there and back."""
        return self._call(lambda: (self._there.impairment.dropped.copy(), self._back.impairment.dropped.copy()))

    def _lines(self, there: bool, back: bool) -> list[DelayLine]:
        return [line for line, is_meant in ((self._there, there), (self._back, back)) if is_meant]

    def _call(self, action: Callable[[], T]) -> T:
        """Do something on the bridge's own loop, which alone touches the lines."""
        result: Future[T] = Future()
        self._loop.call_soon_threadsafe(lambda: result.set_result(action()))
        return result.result(_PATIENCE_S)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda _, context: self._failures.append(repr(context)))
        self._ended = asyncio.Event()
        self._there = DelayLine(CLEAR, random.Random(f"{self._seed} there"))
        self._back = DelayLine(CLEAR, random.Random(f"{self._seed} back"))
        first, second = self._ends
        self._loop.add_reader(first, self._read, first, second, self._there)
        self._loop.add_reader(second, self._read, second, first, self._back)
        self._is_running.set()
        await self._ended.wait()
        for line in (self._there, self._back):
            line.close()

    def _read(self, source: int, target: int, line: DelayLine) -> None:
        for _ in range(READS_PER_WAKE):
            try:
                frame = os.read(source, _MAX_FRAME_BYTES)
            except BlockingIOError:
                return
            line.carry(frame, lambda frame: self._write(target, frame))

    @staticmethod
    def _write(target: int, frame: bytes) -> None:
        try:
            os.write(target, frame)
        except OSError as error:
            if error.errno not in _LOST:
                raise


@contextlib.contextmanager
def wired(seed: int = 0) -> Iterator[tuple[Namespace, Namespace, TapBridge]]:
    """Hosts 10.77.0.1 and 10.77.0.2, and the wire between them, good until it is changed."""
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(host(f"10.77.0.{number}")) for number in (1, 2))
        bridge = TapBridge(stack.enter_context(_tap(first)), stack.enter_context(_tap(second)), seed)
        bridge.start()
        stack.callback(bridge.stop)
        for namespace in (first, second):
            namespace.configure()
        yield first, second, bridge


@contextlib.contextmanager
def _tap(namespace: Namespace) -> Iterator[int]:
    """A TAP device named `eth0` in `namespace`, which lives as long as its descriptor."""
    with namespace.entered():
        descriptor = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK)
        try:
            fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", b"eth0", _IFF_TAP_NO_PI))
        except OSError:
            os.close(descriptor)
            raise
    try:
        yield descriptor
    finally:
        os.close(descriptor)
