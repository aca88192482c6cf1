"""What is said on `files/1`: which files the model is made of that a node offers.

Their bytes are then asked for by digest, on `blob/1`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from llm.gguf import BadModelFile, split_parts
from llm.models.selection import FILE_NAME, is_projector
from llm.offer import Hex
from transport import wire
from transport.blob_message import Size
from transport.errors import ProtocolError
from transport.identity import short
from transport.interface import NodeId, Record, RecordKind
from transport.wire import Bytes32

PROTOCOL = "files/1"
MAX_FILES = 256
MAX_QUESTION_BYTES = 256
MAX_MESSAGE_BYTES = 128 << 10

FileName = Annotated[str, msgspec.Meta(pattern=FILE_NAME.pattern)]
"""It becomes a name on the asker's disk."""


class WhichFiles(msgspec.Struct, frozen=True, tag="which-files"):
    """What is the model with this SHA-256 (`llm.offer.Offer.digest`) made of?"""

    model: Hex


class PeerFile(msgspec.Struct, frozen=True):
    """One file. digest: its SHA-256, which is what `blob/1` calls it."""

    name: FileName
    size: Size
    digest: Bytes32


class TheseFiles(msgspec.Struct, frozen=True, tag="these-files"):
    """All of them, in order. beside: its projector, where it has one; no part of what the SHA-256 says."""

    files: Annotated[tuple[PeerFile, ...], msgspec.Meta(min_length=1, max_length=MAX_FILES)]
    beside: Annotated[tuple[PeerFile, ...], msgspec.Meta(max_length=1)] = ()


class NoFiles(msgspec.Struct, frozen=True, tag="no-files"):
    """The node has no files of that model, or none any more."""


Answer = TheseFiles | NoFiles


def to_record(message: WhichFiles | Answer) -> Record:
    return Record(RecordKind.MESSAGE, wire.encode(message))


def read_question(record: Record | None, peer: NodeId) -> WhichFiles:
    """Raises ProtocolError."""
    return wire.decode(_payload(record), WhichFiles, peer=peer, max_bytes=MAX_QUESTION_BYTES)


def read_answer(record: Record | None, peer: NodeId) -> Answer:
    """Raises ProtocolError, also for files that are not all of one model in its order, or no projector beside it."""
    answer: Answer = wire.decode(_payload(record), TheseFiles | NoFiles, peer=peer, max_bytes=MAX_MESSAGE_BYTES)
    if isinstance(answer, TheseFiles):
        _check(answer, peer)
    return answer


def _check(answer: TheseFiles, peer: NodeId) -> None:
    names = [file.name for file in answer.files]
    try:
        parts = [part.name for part in split_parts(Path(names[0]))]
    except BadModelFile as error:
        raise ProtocolError(f"files of node {short(peer)}: {error}") from error
    if names != parts:
        raise ProtocolError(f"expected the {len(parts)} parts of {names[0]} from node {short(peer)}, got {names[:20]}")
    for file in answer.beside:
        if not is_projector(file.name):
            raise ProtocolError(f"expected a projector beside {names[0]} from node {short(peer)}, got {file.name}")


def _payload(record: Record | None) -> bytes:
    """The payload to decode; an early end and raw bytes read as a message of no bytes, which is malformed."""
    return record.payload if record is not None and record.kind is RecordKind.MESSAGE else b""
