"""What a host's sessions make of their drafter, told by their process to its agent, for status, metrics and plans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from llm.draft.message import Seconds
from llm.offer import Name
from transport import wire
from transport.interface import Record, RecordKind
from transport.wire import Counter

MAX_MESSAGE_BYTES = 1024

Ratio = Annotated[float, msgspec.Meta(ge=0, lt=1e9)]


class Tally(msgspec.Struct, frozen=True, tag="tally"):
    """model: of the sessions.  state: of the one that drafted, or thought of it, last.  speedup: S(k) at its best k.

    best: that k.  chance: that a drafted token stands.  plain_s: one token, t₁.  verify_s, draft_s: of `best`
    tokens.  break_even_s: RTT* of such a block.  missed: answers that came after their deadline.
    """

    model: Name
    drafter: Annotated[str, msgspec.Meta(max_length=200)]
    state: Literal["on", "off", "never"]
    speedup: Ratio
    best: Counter
    chance: Annotated[float, msgspec.Meta(ge=0, le=1)]
    plain_s: Seconds
    verify_s: Seconds
    draft_s: Seconds
    round_trip_s: Seconds
    break_even_s: float
    blocks: Counter
    drafted: Counter
    accepted: Counter
    missed: Counter


@dataclass(frozen=True, slots=True)
class Account:
    """How drafting goes for one model's sessions. node: by name, whose drafter it is."""

    node: str
    tally: Tally


def to_record(tally: Tally) -> Record:
    return Record(RecordKind.MESSAGE, wire.encode(tally))


def read_tally(record: Record) -> Tally:
    """Raises ProtocolError."""
    return wire.decode(record.payload, Tally, peer=None, max_bytes=MAX_MESSAGE_BYTES, source="a session process")
