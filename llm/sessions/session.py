"""A conversation and the answer that it is being given. State only; `sessions` changes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy

from llm.sessions.drafter import NGRAM, Drafter
from llm.sessions.drafting import Drafting
from llm.sessions.far_drafter import FarDrafter
from llm.sessions.pieces import Pieces
from llm.sessions.window import Bounds


@dataclass(slots=True)
class Session:
    """tokens: all of it.  cached: the tokens whose state there is, in the context or parked, by position.

    sequence: in the context; None while it is not there.  parked_bytes: of its state on disk.  question: tokens added
    since its last answer.  state_bytes: of the sequence when an answer last ended, with state_cells.  draft_model: that
    drafts for it; "" for n-grams.  drafting: by that.  far_drafting: by a drafter on another host, once there was one.
    """

    id: str
    owner: str
    bounds: Bounds | None = None
    tokens: list[int] = field(default_factory=list)
    cached: list[int] = field(default_factory=list)
    sequence: int | None = None
    question: int = 0
    last_used: float = 0.0
    parked_bytes: int = 0
    digest: str = ""
    state_bytes: int = 0
    state_cells: int = 0
    draft_model: str = ""
    turn: Turn | None = None
    drafting: Drafting = field(default_factory=Drafting)
    far_drafting: Drafting | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What an answer should be. seed: for a temperature above 0.  most_tokens: 0 reads the question only.

    least_margin: see `accept.settle`.  block: tokens to draft at a time whether that pays or not; 0 lets it be decided.
    """

    most_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stops: tuple[str, ...] = ()
    least_margin: float = 0.0
    drafts: bool = False
    block: int = 0


@dataclass(frozen=True, slots=True)
class Said:
    """Part of an answer. finish: "stop" or "length" with the last one, "error" when it broke off."""

    text: str
    tokens: int
    finish: str = ""


class Listener(Protocol):
    """Who is told an answer. Called by the context's thread."""

    @property
    def has_room(self) -> bool:
        """Whether it keeps up; while it does not, its answer rests."""

    def tell(self, said: Said) -> None: ...


@dataclass(slots=True)
class Turn:
    """An answer in the making. listener: whom it is told.

    unread: tokens to be decoded next.  wanted: what it attended to when it had to leave the context.  alone: the next
    row is decoded without a draft.  far: a drafter on another host.  drafted_by: whose the latest draft was.
    """

    session: Session
    wish: Wish
    listener: Listener
    drafter: Drafter = NGRAM
    far: FarDrafter | None = None
    drafted_by: Drafter | None = None
    unread: list[int] = field(default_factory=list)
    wanted: list[int] = field(default_factory=list)
    is_admitted: bool = False
    alone: bool = False
    said: int = 0
    read: int = 0
    reused: int = 0
    drafted: int = 0
    accepted: int = 0
    blocks: int = 0
    asked_at: float = 0.0
    first_at: float = 0.0
    ended_at: float = 0.0
    pieces: Pieces = field(init=False)
    dice: numpy.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.pieces = Pieces(self.wish.stops)
        self.dice = numpy.random.default_rng(self.wish.seed)

    @property
    def may_draft(self) -> bool:
        """Whether what it says next may be drafted: plain decoding has begun, and goes by the best token."""
        return self.wish.drafts and self.wish.temperature <= 0 and self.said > 0 and not self.alone
