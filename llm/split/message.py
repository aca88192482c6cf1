"""What leader and worker say on `split/1`, before the tunnels: one Prepare, any Preparing, then Prepared or Refused.

The lease was granted before, over `lease/1`; the tensors and the computation go through `tunnel/1`, service `rpc`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from llm.offer import Hex, Name
from llm.split.build import EngineBuild
from transport import wire
from transport.errors import ProtocolError
from transport.interface import NodeId, Record, RecordKind
from transport.wire import Counter

PROTOCOL = "split/1"
SERVICE = "rpc"
MAX_MESSAGE_BYTES = 4096
PREPARING_EVERY_S = 2.0
SILENCE_S = 15.0
"""A worker that has said nothing for so long while it prepares is given up."""
PREPARE_S = 900.0
"""Hashing and copying the weights of a large model from a slow disk takes minutes."""

LayerNumber = Annotated[int, msgspec.Meta(ge=0, le=4096)]


class Prepare(msgspec.Struct, frozen=True, tag="prepare"):
    """Be ready to hold a part of a model. lease: `lease_text`.  fingerprint: of its files.  build: the leader's.

    first_layer, layers, has_output: which part, for the weights that the worker may have on its own disk.
    weights_bytes, kv_bytes: of memory_bytes, to be shown; 0 where nobody predicted it.
    """

    lease: Annotated[str, msgspec.Meta(max_length=128)]
    model: Name
    fingerprint: Hex
    build: EngineBuild
    memory_bytes: Counter
    first_layer: LayerNumber
    layers: LayerNumber
    has_output: bool
    weights_bytes: Counter = 0
    kv_bytes: Counter = 0


class Preparing(msgspec.Struct, frozen=True, tag="preparing"):
    """Not yet; what is going on, for people."""

    words: Annotated[str, msgspec.Meta(max_length=200)]


class Prepared(msgspec.Struct, frozen=True, tag="prepared"):
    """Connect now. device_bytes: of each device that its RPC server shows.  own_bytes: taken from the worker's disk."""

    device_bytes: Annotated[tuple[Counter, ...], msgspec.Meta(min_length=1, max_length=16)]
    own_bytes: Counter


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """There will be no part. reason: for people, with what to do."""

    reason: Annotated[str, msgspec.Meta(max_length=500)]


Answer = Preparing | Prepared | Refused


def to_record(message: Prepare | Answer) -> Record:
    return Record(RecordKind.MESSAGE, wire.encode(message))


def read_prepare(record: Record | None, peer: NodeId) -> Prepare:
    """What a leader wants. Raises ProtocolError."""
    return wire.decode(_payload(record), Prepare, peer=peer, max_bytes=MAX_MESSAGE_BYTES)


def read_answer(record: Record | None, peer: NodeId) -> Answer:
    """What a worker says. Raises ProtocolError."""
    if record is None:
        raise ProtocolError("split/1: expected the outcome of preparing, got the end of the stream")
    answer: Answer = wire.decode(
        _payload(record), Preparing | Prepared | Refused, peer=peer, max_bytes=MAX_MESSAGE_BYTES
    )
    return answer


def _payload(record: Record | None) -> bytes:
    return record.payload if record is not None and record.kind is RecordKind.MESSAGE else b""
