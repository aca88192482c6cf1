"""Runs a draft model on the one thread that may touch its context: all that wait are drafted for in one batch."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from llm.sessions.draft_model import DraftModel
from llm.sessions.drafter import Ask

logger = logging.getLogger("meshd.sessions")

MOST_WAITING = 1024
MOST_TURNS = 4096
"""Of reading one text before it is given up: a batch each."""

Told = Callable[[Sequence[int]], None]
Act = tuple[Ask, Told] | str | None


class DraftThread:
    """load: makes the model, on the thread.  on_death: called on the loop when the thread ends by itself."""

    def __init__(self, load: Callable[[], DraftModel], on_death: Callable[[], None]) -> None:
        self._load, self._on_death = load, on_death
        self._loop = asyncio.get_running_loop()
        self._acts: queue.Queue[Act] = queue.Queue(MOST_WAITING)
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="drafts", daemon=True)
        self.token_s = 0.0

    async def start(self) -> None:
        """Load; raises what `load` raises."""
        self._thread.start()
        await self._ready

    async def draft(self, ask: Ask) -> Sequence[int]:
        """What may go on, once all of it was read; nothing when too many wait."""
        outcome: asyncio.Future[Sequence[int]] = self._loop.create_future()

        def tell(ids: Sequence[int]) -> None:
            if not outcome.done():
                outcome.set_result(ids)

        def told(ids: Sequence[int]) -> None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(tell, ids)

        try:
            self._acts.put_nowait((ask, told))
        except queue.Full:
            return ()
        return await outcome

    def forget(self, session: str) -> None:
        with suppress(queue.Full):  # it makes room for others by itself
            self._acts.put_nowait(session)

    def end(self) -> None:
        with suppress(queue.Full):
            self._acts.put_nowait(None)

    def _run(self) -> None:
        try:
            model = self._load()
        except Exception as error:  # noqa: BLE001 - handed on to whoever started it
            self._loop.call_soon_threadsafe(self._ready.set_exception, error)
            return
        self.token_s = model.draft_s(1)
        self._loop.call_soon_threadsafe(self._ready.set_result, None)
        try:
            self._serve(model)
        finally:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._on_death)

    def _serve(self, model: DraftModel) -> None:
        while (act := self._acts.get()) is not None:
            waiting: list[tuple[Ask, Told]] = []
            while act is not None:
                if isinstance(act, str):
                    model.forget(act)
                else:
                    waiting.append(act)
                if self._acts.empty():
                    break
                act = self._acts.get()
            for start in range(0, len(waiting), model.most_together):
                answer(model, waiting[start : start + model.most_together])
                self.token_s = model.draft_s(1)
            if act is None:
                return


def answer(model: DraftModel, waiting: Sequence[tuple[Ask, Told]]) -> None:
    """Tell each what it may go on with; who has a long text to be read is told when that is done."""
    left = list(waiting)
    for _ in range(MOST_TURNS):
        proposals = model.propose([ask for ask, _ in left])
        for (ask, told), ids in zip(left, proposals, strict=True):
            if ids or not model.is_reading(ask.session):
                told(tuple(ids[: ask.count]))
        left = [one for one, ids in zip(left, proposals, strict=True) if not ids and model.is_reading(one[0].session)]
        if not left:
            return
    for _, told in left:
        told(())
