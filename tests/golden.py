"""Golden vectors: committed bytes of every message and what they mean, one JSON file each.

A vector names its codec: a struct by its dotted path, or an entry of `CODECS` for what is no struct. Files under
`earlier/` were written by a version before ours: they must still be read, and need not be written alike.
`tools/vectors.py` writes vectors that do not exist yet, from the `EXAMPLES` of tests/*/examples.py, and never
touches one that does.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from transport import credit, invite, wire
from transport.bulk.frame import Frame, FrameReader, encode_end, encode_reset, record_prefix
from transport.identity import NodeKey
from transport.interface import Record
from transport.record import RecordReader, encode_record

TESTS = Path(__file__).parent
PACKAGES = ("transport", "gossip", "llm", "forms", "meshd")
OWNER_SEED = b"\x02" * 32
"""Of the key that signed the token among the vectors."""


@dataclass(frozen=True, slots=True)
class Codec:
    """How bytes become a value, and a value the same bytes again."""

    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]


@dataclass(frozen=True, slots=True)
class Example:
    """What a new vector is made of. about: which message this is, in a line."""

    about: str
    codec: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Vector:
    """A committed example. value: what `plain` makes of what the codec read."""

    path: Path
    about: str
    codec: str
    data: bytes
    value: Any

    @property
    def is_earlier(self) -> bool:
        return self.path.parent.name == "earlier"


def _read_records(data: bytes) -> list[Record]:
    return RecordReader().feed(data)


def _write_records(records: list[Record]) -> bytes:
    return b"".join(encode_record(record.kind, record.payload) for record in records)


def _read_book(data: bytes) -> Any:
    return msgspec.json.decode(data, type=find_struct("gossip.addressbook._Book"))


def _write_book(book: Any) -> bytes:
    return json.dumps(msgspec.to_builtins(book), indent=1).encode()


def _read_frames(data: bytes) -> list[Frame]:
    reader = FrameReader()
    reader.room()[: len(data)] = data
    return reader.filled(len(data))


def _write_frames(frames: list[Frame]) -> bytes:
    return b"".join(_write_frame(frame) for frame in frames)


def _write_frame(frame: Frame) -> bytes:
    if frame.code is not None:
        return encode_reset(frame.stream, frame.code)
    if frame.record is None:
        return encode_end(frame.stream)
    return record_prefix(frame.stream) + encode_record(frame.record.kind, frame.record.payload)


CODECS = {
    "frames": Codec(_read_frames, _write_frames),
    "records": Codec(_read_records, _write_records),
    "address_book": Codec(_read_book, _write_book),
    "credit": Codec(credit.decode_grant, credit.encode_grant),
    "token": Codec(
        lambda data: invite.parse_token(data.decode()),
        lambda value: invite.format_token(value, NodeKey(OWNER_SEED)).encode(),
    ),
}


def codec(name: str) -> Codec:
    """The codec that a vector names."""
    if name in CODECS:
        return CODECS[name]
    struct = find_struct(name)
    return Codec(
        lambda data: wire.decode(data, struct, peer=None, max_bytes=len(data), max_items=len(data)), wire.encode
    )


def find_struct(path: str) -> type[msgspec.Struct]:
    """The struct at a dotted path. ImportError or AttributeError when it is gone: then its vectors cannot be read."""
    module, _, name = path.rpartition(".")
    found: type[msgspec.Struct] = getattr(importlib.import_module(module), name)
    return found


def struct_path(struct: type[msgspec.Struct]) -> str:
    return f"{struct.__module__}.{struct.__qualname__}"


def plain(value: Any) -> Any:
    """What JSON can say of a decoded value: bytes as hex, a struct as `{"Name": {field: …}}`."""
    match value:
        case msgspec.Struct():
            fields = {name: plain(getattr(value, name)) for name in value.__struct_fields__}
            return {type(value).__name__.lstrip("_"): fields}
        case Record():
            return [value.kind.name, value.payload.hex()]
        case Frame():
            return {"stream": value.stream, "record": plain(value.record), "code": value.code}
        case Enum():
            return value.value
        case bytes():
            return value.hex()
        case tuple() | list():
            return [plain(item) for item in value]
        case _:
            return value


def vectors(package: str) -> list[Vector]:
    """Every committed vector of one package, by path."""
    return [load(path) for path in sorted((TESTS / package / "vectors").rglob("*.json"))]


def load(path: Path) -> Vector:
    text = json.loads(path.read_text("utf-8"))
    return Vector(path, text["about"], text["codec"], bytes.fromhex(text["hex"]), text["value"])


def dump(example: Example) -> str:
    """The file of a new vector."""
    value = plain(codec(example.codec).read(example.data))
    text = {"about": example.about, "codec": example.codec, "hex": example.data.hex(), "value": value}
    return json.dumps(text, indent=1, ensure_ascii=False) + "\n"


def says(value: Any, expected: Any) -> bool:
    """Whether a plain value holds all that `expected` does; fields that came later may stand beside."""
    match expected:
        case dict():
            return isinstance(value, dict) and all(key in value and says(value[key], expected[key]) for key in expected)
        case list():
            return isinstance(value, list) and len(value) == len(expected) and all(map(says, value, expected))
        case _:
            return bool(value == expected)


def check(vector: Vector) -> None:
    """The vector is read as it was meant and, unless it is an earlier version's, written as it is."""
    found = codec(vector.codec)
    value = found.read(vector.data)
    assert says(plain(value), vector.value), f"{vector.path.name} is read as {plain(value)}"
    if not vector.is_earlier:
        assert found.write(value).hex() == vector.data.hex(), f"{vector.path.name} is written otherwise"
