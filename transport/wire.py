"""Turn typed structs into MessagePack and back, trusting nothing about bytes that a peer sent.

`msgpack` reads first, under limits on size, count and depth; `msgspec` then checks every field against
the type. Framing (where a message starts and ends) belongs to `record`.
"""

from __future__ import annotations

from functools import lru_cache
from types import UnionType
from typing import Annotated, Any, NoReturn, TypeVar, overload

import msgpack
import msgspec

from transport.errors import ProtocolError
from transport.identity import short
from transport.interface import NodeId

T = TypeVar("T")

# A list header of three bytes makes msgpack allocate the list it announces, and 1024 may nest: 256 entries bound
# that to 2 MiB for a moment (measured). Messages with longer lists say so where they are read.
MAX_ITEMS = 256

Bytes16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Bytes64 = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
ShortText = Annotated[str, msgspec.Meta(max_length=64)]
Seconds = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]
"""Unix time or a span, whole seconds."""
Counter = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]

_TAG_FIELD = "type"
"""Where msgspec puts the tag of a struct that travels as a map."""

# Everything that msgpack and msgspec raise for bytes or values they cannot read.
_UNREADABLE = (
    msgpack.UnpackException,
    msgspec.MsgspecError,
    ValueError,
    TypeError,
    OverflowError,
    RecursionError,
)

_encoder = msgspec.msgpack.Encoder()


def encode(struct: msgspec.Struct) -> bytes:
    """Write `struct` as MessagePack."""
    return _encoder.encode(struct)


@overload
def decode(
    data: bytes, expected: type[T], *, peer: NodeId | None, max_bytes: int, max_items: int = ..., source: str = ...
) -> T: ...
@overload
def decode(
    data: bytes, expected: UnionType, *, peer: NodeId | None, max_bytes: int, max_items: int = ..., source: str = ...
) -> Any: ...
def decode(
    data: bytes, expected: Any, *, peer: NodeId | None, max_bytes: int, max_items: int = MAX_ITEMS, source: str = ""
) -> Any:
    """Read one `expected` (a struct, or a union of tagged structs) out of `data`.

    peer: who sent it, None before it has proved that.  max_bytes: of the whole message.  max_items: of any
    one list or map.  source: named in errors instead of the peer, for bytes that are not from one.
    Raises ProtocolError, and nothing else, whatever `data` holds.
    """
    if len(data) > max_bytes:
        wanted = f"{_name(expected)} of at most {max_bytes} bytes"
        raise ProtocolError(f"expected {wanted}, got {len(data)} bytes from {_origin(peer, source)}")
    try:
        raw = _unpack(data, max_items)
        wanted_type = _by_tag(expected, raw) if isinstance(expected, UnionType) else expected
        return msgspec.convert(raw, wanted_type, strict=True, builtin_types=(bytes,))
    except _UNREADABLE as error:
        reason = printable(str(error), 200) or error.__class__.__name__
        origin = _origin(peer, source)
        raise ProtocolError(f"expected {_name(expected)}, got {len(data)} bytes from {origin}: {reason}") from error


def _by_tag(union: UnionType, raw: object) -> Any:
    """The struct of `union` whose tag `raw` bears; `union` itself where there is none, for msgspec to say so.

    Given a union, msgspec works it out anew each time, which takes nine times as long as one of its structs.
    """
    tag: object = None
    if isinstance(raw, list):
        tag = raw[0] if raw else None
    elif isinstance(raw, dict):
        tag = raw.get(_TAG_FIELD)
    if type(tag) not in (int, str):
        return union
    return _tags(union).get((isinstance(raw, list), tag), union)


@lru_cache(maxsize=256)
def _tags(union: UnionType) -> dict[tuple[bool, object], Any]:
    """The structs of `union` by whether they travel as lists, and their tags."""
    found: dict[tuple[bool, object], Any] = {}
    for struct in union.__args__:
        config = struct.__struct_config__
        if config.array_like or config.tag_field == _TAG_FIELD:
            found[config.array_like, config.tag] = struct
    return found


def _name(expected: Any) -> str:
    return getattr(expected, "__name__", None) or str(expected)


def _origin(peer: NodeId | None, source: str) -> str:
    """Who sent it, for errors only: spelling a node id costs more than reading most messages."""
    return source or (f"node {short(peer)}" if peer is not None else "a peer that has not proved its identity")


def printable(text: str, max_length: int) -> str:
    """Text of a peer's choosing, made safe to show on a terminal or to log: one line, no control characters."""
    return "".join(character if character.isprintable() else "?" for character in text[:max_length])


def _unpack(data: bytes, max_items: int) -> object:
    size = len(data)
    items = min(size, max_items)
    return msgpack.unpackb(
        data,
        raw=False,
        strict_map_key=True,
        max_str_len=size,
        max_bin_len=size,
        max_array_len=items,
        max_map_len=items,
        max_ext_len=0,
        ext_hook=_refuse_extension,
    )


def _refuse_extension(code: int, data: bytes) -> NoReturn:
    raise ValueError(f"extension type {code} is not part of this protocol")
