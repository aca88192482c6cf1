"""A small model of the same vocabulary that proposes tokens, in a context of its own beside the sessions' one.

It follows each session that asks: what it has read of it stays, what was refused is cut off. All who ask are drafted
for in one batch, a token at a time. Sessions that did not ask lately make room. Nothing here is worth parking.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field

from llm.sessions.batch import Row
from llm.sessions.context import Context, ContextFull
from llm.sessions.drafter import Ask
from llm.sessions.drafting import MOST_TOKENS, BatchTimes
from llm.sessions.sampling import best
from llm.sessions.window import common

WARM_STEPS = 6


@dataclass(slots=True)
class _Place:
    """What the draft's context has of a session: one `sequence`, its `cached` tokens, those it has to read yet."""

    sequence: int
    cached: list[int] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)
    drafted: list[int] = field(default_factory=list)


class DraftModel:
    """A `Drafter`. Its context is one that can cut. clock: seconds."""

    is_free = False
    is_far = False
    round_trip_s = 0.0

    def __init__(self, context: Context, name: str, clock: Callable[[], float]) -> None:
        self.name = name
        self._context = context
        self._clock = clock
        self._times = BatchTimes()
        self._together = 1
        # By session, the one that asked longest ago first.
        self._places: dict[str, _Place] = {}
        self._free = list(range(context.settings.sequences))[::-1]
        self._warm_up()

    @property
    def most_together(self) -> int:
        """Sessions that have room in its context at a time."""
        return self._context.settings.sequences

    def draft_s(self, count: int) -> float:
        """As measured, for as many sessions at a time as asked last."""
        return count * self._times.expect(self._together)

    def propose(self, asks: Sequence[Ask]) -> list[Sequence[int]]:
        """Nothing for whom it has too much to read yet, which it goes on with at the next question."""
        self._together = max(1, len(asks))
        asking = {ask.session for ask in asks}
        places = [self._follow(ask, asking) for ask in asks]
        try:
            self._read([place for place in places if place is not None])
            for _ in range(1, max(ask.count for ask in asks)):
                going = [
                    place
                    for place, ask in zip(places, asks, strict=True)
                    if place is not None and 0 < len(place.drafted) < ask.count
                ]
                if not going:
                    break
                self._step(going)
        except ContextFull:
            self._start_anew()
            return [() for _ in asks]
        return [place.drafted if place is not None else () for place in places]

    def is_reading(self, session: str) -> bool:
        """Whether it has yet to read some of what it was last asked about."""
        place = self._places.get(session)
        return place is not None and bool(place.unread)

    def forget(self, session: str) -> None:
        place = self._places.pop(session, None)
        if place is not None:
            self._context.cut(place.sequence, 0)
            self._free.append(place.sequence)

    def close(self) -> None:
        self._context.close()

    def _warm_up(self) -> None:
        """Measure what a token takes; the first one loads what is computed with."""
        for position in range(WARM_STEPS):
            began = self._clock()
            self._context.decode([Row(0, 0, position, True)])
            if position:
                self._times.note(1, self._clock() - began)
        self._context.cut(0, 0)

    def _follow(self, ask: Ask, asking: Set[str]) -> _Place | None:
        """Its place, with what it has to read; None where its tokens are not this model's, or have no room."""
        tokens = recent(ask.tokens, self._context.cells // 2)
        if max(tokens) >= self._context.vocabulary_size:
            return None
        place = self._places.pop(ask.session, None) or self._new_place(asking)
        if place is None:
            return None
        self._places[ask.session] = place
        kept = min(common(place.cached, tokens), len(tokens) - 1)
        if kept < len(place.cached):
            self._context.cut(place.sequence, kept)
            del place.cached[kept:]
        place.unread, place.drafted = tokens[kept:], []
        if self._make_room(ask.count, asking):
            return place
        place.unread = []
        return None

    def _new_place(self, asking: Set[str]) -> _Place | None:
        if not self._free and not self._forget_oldest(asking):
            return None
        return _Place(self._free.pop())

    def _make_room(self, cells: int, asking: Set[str]) -> bool:
        """Whether there are so many cells beside those that are used, once others have made room."""
        while self._used() + cells > self._context.cells:
            if not self._forget_oldest(asking):
                return False
        return True

    def _forget_oldest(self, asking: Set[str]) -> bool:
        """Let who asked longest ago go, unless it asks now; whether it went."""
        oldest = next((session for session in self._places if session not in asking), None)
        if oldest is not None:
            self.forget(oldest)
        return oldest is not None

    def _used(self) -> int:
        # What those before it in the same question have to read, and to draft, needs room, too.
        return sum(len(place.cached) + len(place.unread) + MOST_TOKENS for place in self._places.values())

    def _read(self, places: Sequence[_Place]) -> None:
        """One batch of what is unread, so that nobody waits for a long text; who has read all has a first token."""
        room = self._context.settings.rows
        rows: list[Row] = []
        ready: list[_Place] = []
        for place in places:
            count = min(len(place.unread), room - len(rows))
            start = len(place.cached)
            is_all = count == len(place.unread)
            rows += [
                Row(place.sequence, token, start + index, is_all and index == count - 1)
                for index, token in enumerate(place.unread[:count])
            ]
            place.cached += place.unread[:count]
            place.unread = place.unread[count:]
            if is_all and count:
                ready.append(place)
        if rows:
            self._draft(rows, ready)

    def _step(self, places: Sequence[_Place]) -> None:
        """One more token for each."""
        self._draft([Row(one.sequence, one.drafted[-1], len(one.cached), True) for one in places], places, is_step=True)

    def _draft(self, rows: Sequence[Row], places: Sequence[_Place], *, is_step: bool = False) -> None:
        began = self._clock()
        logits = self._context.decode(rows)
        if is_step:
            self._times.note(len(rows), self._clock() - began)
        for place, row in zip(places, logits, strict=True):
            if is_step:
                place.cached.append(place.drafted[-1])
            place.drafted.append(best(row))

    def _start_anew(self) -> None:
        """Cells are counted here, so only a gap that llama.cpp cannot use leads here."""
        for session in list(self._places):
            self.forget(session)


def recent(tokens: Sequence[int], most: int) -> list[int]:
    """The latest of `tokens`, `most` or fewer, beginning where it begins for a while: half of them leave at a time."""
    half = max(1, most // 2)
    start = max(0, -(-(len(tokens) - most) // half) * half)
    return list(tokens[start:])
