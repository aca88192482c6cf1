"""Who proposes what sessions go on with. Pure; the ones that are models are `draft_model`'s."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from llm.sessions.ngram import propose


@dataclass(frozen=True, slots=True)
class Ask:
    """session: its name.  tokens: all of it.  count: how many to propose at most."""

    session: str
    tokens: Sequence[int]
    count: int


class Drafter(Protocol):
    """Whatever it proposes changes no answer, only its speed. Called by the thread that decodes."""

    @property
    def name(self) -> str:
        """What a session's policy and its state call it."""

    @property
    def is_free(self) -> bool:
        """Whether to ask it costs nothing, so that it is asked before it is known whether a draft would pay."""

    @property
    def is_far(self) -> bool:
        """Whether it is on another host, so that a block costs more than its batch."""

    @property
    def round_trip_s(self) -> float:
        """To it and back; 0 in this process."""

    def draft_s(self, count: int) -> float:
        """How long it takes to propose so many tokens."""

    def propose(self, asks: Sequence[Ask]) -> list[Sequence[int]]:
        """Its proposals, one for each of `asks`, of `count` tokens or fewer; asked together, for all in one batch."""

    def forget(self, session: str) -> None:
        """The session is gone, or out of the context."""


@dataclass(frozen=True, slots=True)
class Recalling:
    """A drafter that computes nothing worth counting. find: (tokens, count) → what they may go on with."""

    find: Callable[[Sequence[int], int], Sequence[int]]
    name: str = "ngram"
    is_free: bool = True
    is_far: bool = False
    round_trip_s: float = 0.0

    def draft_s(self, count: int) -> float:
        return 0.0

    def propose(self, asks: Sequence[Ask]) -> list[Sequence[int]]:
        return [self.find(ask.tokens, ask.count) for ask in asks]

    def forget(self, session: str) -> None:
        """Nothing is kept."""


NGRAM = Recalling(propose)
NONE = Recalling(lambda tokens, count: (), "none")
