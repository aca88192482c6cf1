"""Runs sessions on the one thread that may touch their context, for an event loop that asks it things."""

from __future__ import annotations

import asyncio
import ctypes
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from llm.errors import QueueFull
from llm.sessions.session import Said
from llm.sessions.sessions import Sessions

Result = TypeVar("Result")
Act = Callable[[Sessions], None]

MAX_ACTS = 2048
"""Questions that wait for the thread: more than all answers at a time may have."""
MAX_UNREAD = 256
"""Pieces of an answer that its reader may be behind before the answer rests."""
REST_S = 0.005
IDLE_S = 1.0
"""Without work, before memory is given back."""


class SessionThread:
    """Owns the thread. load: makes the sessions, on it.  on_death: told on the loop why the thread has ended."""

    def __init__(self, load: Callable[[], Sessions], on_death: Callable[[BaseException | None], None]) -> None:
        self._load = load
        self._on_death = on_death
        self._acts: queue.Queue[Act | None] = queue.Queue(MAX_ACTS)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="context", daemon=True)

    async def start(self) -> None:
        """Load; raises what `load` raises."""
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._thread.start()
        await self._ready

    async def call(self, act: Callable[[Sessions], Result]) -> Result:
        """What `act` gives between two batches; raises what it raises, and QueueFull."""
        outcome: Future[Result] = Future()

        def perform(sessions: Sessions) -> None:
            if not outcome.set_running_or_notify_cancel():
                return
            try:
                outcome.set_result(act(sessions))
            except Exception as error:  # noqa: BLE001 - handed on to whoever asked
                outcome.set_exception(error)

        try:
            self._acts.put_nowait(perform)
        except queue.Full as error:
            raise QueueFull(f"{MAX_ACTS} questions wait for this model's sessions already") from error
        return await asyncio.wrap_future(outcome)

    async def stop(self) -> None:
        """Let the thread park everybody and end."""
        self._acts.put_nowait(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            sessions = self._load()
        except Exception as error:  # noqa: BLE001 - handed on to whoever started it
            self._loop.call_soon_threadsafe(self._ready.set_exception, error)
            return
        self._loop.call_soon_threadsafe(self._ready.set_result, None)
        death: BaseException | None = None
        try:
            self._serve(sessions)
            sessions.park_all()
        except Exception as error:  # noqa: BLE001 - the process ends of it, and says so
            death = error
        with suppress(RuntimeError):  # the loop has ended before
            self._loop.call_soon_threadsafe(self._on_death, death)

    def _serve(self, sessions: Sessions) -> None:
        is_resting, is_tidy = False, True
        while True:
            with suppress(queue.Empty):
                while True:
                    # Without work it sleeps until it is asked; while readers are behind, for a moment.
                    idle_s = None if is_tidy else IDLE_S
                    wait_s = idle_s if not sessions.has_work else REST_S if is_resting else 0
                    act = self._acts.get(block=wait_s != 0, timeout=wait_s or None)
                    if act is None:
                        return
                    act(sessions)
                    is_resting = is_tidy = False
            if sessions.has_work:
                is_resting = not sessions.step()
            else:
                give_back_memory()
                is_tidy = True


def give_back_memory() -> None:
    """Return what is free to the system: glibc keeps what a burst took, for the next one."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc's alone
        trim(0)


class Outlet:
    """Carries an answer from the thread to the loop. A `Listener`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._said: asyncio.Queue[Said] = asyncio.Queue()  # bounded by `has_room`
        self._told = 0
        self._heard = 0

    @property
    def has_room(self) -> bool:
        return self._told - self._heard < MAX_UNREAD

    def tell(self, said: Said) -> None:
        self._told += 1
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._said.put_nowait, said)

    async def hear(self) -> Said:
        """What comes next."""
        said = await self._said.get()
        self._heard += 1
        return said
