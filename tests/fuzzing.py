"""Feeding decoders what nobody wrote: golden vectors, bent; and bombs that announce more than they bring.

A `Decoder` is one way in for bytes of others, with what it may raise and the seeds that reach deep into it. Those of a
package stand in tests/*/decoders.py; its test_fuzz.py runs each for a moment, `tools/fuzz.py` for as long as one likes.
"""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgpack
from hypothesis import strategies as st

from tests.golden import TESTS, vectors
from transport import wire
from transport.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class Decoder:
    """read: ends with a value or one of `refuses`.  max_bytes: the longest that it does not refuse unread.

    bent_bytes: of memory, for a seed that was bent.  peak_bytes: for the worst that `max_bytes` can announce.
    """

    name: str
    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    max_bytes: int
    refuses: tuple[type[Exception], ...] = (ProtocolError,)
    bent_bytes: int = 512 << 10
    peak_bytes: int = 3 << 20

    def try_read(self, data: bytes) -> bool:
        """Whether `data` was read rather than refused. Raises what no bytes may cause."""
        try:
            self.read(data)
        except self.refuses:
            return False
        return True


def seeds_of(package: str, *names: str) -> tuple[bytes, ...]:
    """The vectors of these names, and those of earlier versions with them."""
    found = [vector.data for vector in vectors(package) if vector.path.stem in names]
    assert len(found) >= len(names), f"{package} has not all of {names}"
    return tuple(found)


def corpus(decoder: Decoder) -> list[bytes]:
    """Inputs worth trying again: tests/corpus/<decoder>.hex, one a line, `#` before words about them."""
    path = TESTS / "corpus" / f"{decoder.name}.hex"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [bytes.fromhex(line) for line in lines if not line.startswith("#")]


def bent(decoder: Decoder) -> st.SearchStrategy[bytes]:
    """Seeds of the decoder, each changed in a few places. Smaller examples have fewer and simpler changes."""
    seeds = [*decoder.seeds, *corpus(decoder)]
    return st.builds(
        bend, st.sampled_from(seeds), st.just(decoder.seeds), st.integers(1, 4), st.randoms(use_true_random=False)
    )


def bend(data: bytes, others: tuple[bytes, ...], changes: int, dice: random.Random) -> bytes:
    """Change `data` in `changes` places: what it says, or its bytes. others: to splice with."""
    change = dice.choice((_say_otherwise, _say_otherwise, _say_otherwise, _damage, _damage, None))
    if change is None:
        return _splice(data, dice.choice(others), dice)
    for _ in range(changes):
        data = change(data, dice)
    return data


def _damage(data: bytes, dice: random.Random) -> bytes:
    return dice.choice(_DAMAGES)(data, dice)


def _say_otherwise(data: bytes, dice: random.Random) -> bytes:
    records = _records(data)
    return _reframe(records, dice) if records else _reshape(data, dice)


def bombs(max_bytes: int) -> Iterable[bytes]:
    """Messages that a careless reader would give much memory or time."""
    for count in (255, wire.MAX_ITEMS, 1024, 4095):
        for header in (struct.pack("!BH", 0xDC, count), struct.pack("!BI", 0xDF, count)):
            yield (header * (max_bytes // len(header) + 1))[:max_bytes]
            yield (b"\x9f" + header * (max_bytes // len(header)))[:max_bytes]
    yield b"\x91" * max_bytes
    yield b"\x81" * max_bytes
    for header in (b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"):
        yield header + b"\xff\xff\xff\xff"
        yield header + struct.pack("!I", max_bytes) + b"\x00" * 8
    yield b"\x00" * max_bytes
    yield b"\xff" * max_bytes
    yield msgpack.packb([[]] * (max_bytes // 2 - 4))[:max_bytes]
    yield b"\x00\x00\x00\x00\x03" * (max_bytes // 5)
    yield b"\xff\xff\xff\xff\x02" + b"\x00" * 64


def peak_bytes(decoder: Decoder, inputs: Iterable[bytes]) -> int:
    """The most memory that reading any one of `inputs` took, beyond what was there before it."""
    tracemalloc.start()
    try:
        peak = 0
        for data in inputs:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            decoder.try_read(data)
            peak = max(peak, tracemalloc.get_traced_memory()[1] - before)
        return peak
    finally:
        tracemalloc.stop()


# Changes of bytes


def _flip(data: bytes, dice: random.Random) -> bytes:
    if not data:
        return b"\x00"
    changed = bytearray(data)
    changed[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _cut(data: bytes, dice: random.Random) -> bytes:
    return data[: dice.randrange(len(data) + 1)]


def _overwrite(data: bytes, dice: random.Random) -> bytes:
    """A number of 1 to 8 bytes, at the edge of what it may be, in the place of others."""
    size = dice.choice((1, 2, 4, 8))
    edge = dice.choice((0, 1, (1 << 8 * size - 1) - 1, 1 << 8 * size - 1, (1 << 8 * size) - 1, len(data)))
    number = (edge % (1 << 8 * size)).to_bytes(size, "big")
    at = dice.randrange(len(data) + 1)
    return data[:at] + number + data[at + size :]


def _insert(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data) + 1)
    return data[:at] + dice.randbytes(dice.randrange(1, 9)) + data[at:]


def _remove(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data) + 1)
    return data[:at] + data[at + dice.randrange(1, 9) :]


def _repeat(data: bytes, dice: random.Random) -> bytes:
    start, end = sorted(dice.randrange(len(data) + 1) for _ in range(2))
    return data[:end] + data[start:end] * dice.choice((1, 1, 3)) + data[end:]


def _splice(data: bytes, other: bytes, dice: random.Random) -> bytes:
    return data[: dice.randrange(len(data) + 1)] + other[dice.randrange(len(other) + 1) :]


# Changes of what the bytes say


def _announce(data: bytes, dice: random.Random) -> bytes:
    """Another length in one MessagePack header, with the rest as it was."""
    places = headers(data)
    if not places:
        return _flip(data, dice)
    at = dice.choice(places)
    kind = data[at]
    if kind < 0xC0:  # fixmap, fixarray, fixstr: the length is in the header itself
        return data[:at] + bytes([(kind & 0xF0) | dice.randrange(16)]) + data[at + 1 :]
    size = _LENGTH_BYTES[kind]
    said = int.from_bytes(data[at + 1 : at + 1 + size], "big")
    length = dice.choice((0, said - 1, said + 1, said * 2, (1 << 8 * size) - 1, 1 << 8 * size - 1)) % (1 << 8 * size)
    return data[: at + 1] + length.to_bytes(size, "big") + data[at + 1 + size :]


def _reshape(data: bytes, dice: random.Random) -> bytes:
    """Another value in one place of a MessagePack message, also inside the messages that it holds as bytes."""
    try:
        value = msgpack.unpackb(data, strict_map_key=False)
        if not isinstance(value, dict | list):
            return _flip(data, dice)
        return bytes(msgpack.packb(_bent_value(value, dice)))
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException):
        return _flip(data, dice)


def _records(data: bytes) -> list[tuple[int, bytes]]:
    """The records that `data` consists of, as kind and payload; none when it is something else."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at + 5 <= len(data):
        size, kind = struct.unpack_from("!IB", data, at)
        found.append((kind, data[at + 5 : at + 5 + size]))
        at += 5 + size
    return found if at == len(data) else []


def _reframe(records: list[tuple[int, bytes]], dice: random.Random) -> bytes:
    """One record more, less, elsewhere or otherwise."""
    at = dice.randrange(len(records))
    kind, payload = records[at]
    match dice.randrange(6):
        case 0:
            del records[at]
        case 1:
            records.insert(dice.randrange(len(records)), (kind, payload))
        case 2:
            dice.shuffle(records)
        case 3:
            records[at] = (dice.randrange(1, 6), payload)
        case _:
            records[at] = (kind, _reshape(payload, dice))
    return b"".join(struct.pack("!IB", len(payload), kind) + payload for kind, payload in records)


def _bent_value(value: Any, dice: random.Random) -> Any:
    match value:
        case dict() if value and dice.randrange(6):
            key = dice.choice(list(value))
            if dice.randrange(8) == 0:
                return {one: rest for one, rest in value.items() if one != key}
            return {**value, key: _bent_value(value[key], dice)}
        case list() if value and dice.randrange(6):
            at = dice.randrange(len(value))
            match dice.randrange(8):
                case 0:
                    return value[:at] + value[at + 1 :]
                case 1:
                    return value[:at] + value[at : at + 1] * 2 + value[at + 1 :]
                case _:
                    return [*value[:at], _bent_value(value[at], dice), *value[at + 1 :]]
        case bytes() if len(value) > 20 and dice.randrange(2):
            return _reshape(value, dice)
        case bytes() if dice.randrange(2):
            return _flip(value, dice)
        case str() if value and dice.randrange(2):
            at = dice.randrange(len(value))
            return value[:at] + dice.choice("aZ0 /\n\x00é") + value[at + 1 :]
        case int() if not isinstance(value, bool) and dice.randrange(2):
            return max(-(1 << 63), min((1 << 64) - 1, value + dice.choice((-1, 1, 1 << 31, 1 << 53, -(1 << 40)))))
    return dice.choice(_ODD)


def _deep(levels: int) -> list[Any]:
    nest: list[Any] = []
    for _ in range(levels):
        nest = [nest]
    return nest


_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 1 << 53, (1 << 64) - 1, -(1 << 63)),
    *(0.5, -0.0, float("nan"), float("inf"), float("-inf"), 1e308),
    *("", "x", "x" * 65, "\x00\x1b[2J\n", "ä" * 300, "\ud7ff\U0010ffff"),
    *(b"", b"\x00", b"\xff" * 16, b"\x00" * 32, b"\x01" * 64, b"z" * 2000),
    *([], [None] * 20, [[]] * 400, {}, {"a": 1}, {"": {}}, {b"k": b"v"}),
    *(_deep(30), msgpack.ExtType(1, b"x"), msgpack.Timestamp(5)),
)

_DAMAGES = (_flip, _cut, _overwrite, _insert, _remove, _repeat, _announce, _announce)

# What follows the headers of MessagePack that say a length, and how many bytes that takes.
_LENGTH_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
_FIXED_BYTES = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}


def headers(data: bytes) -> list[int]:
    """Where in a MessagePack message a length is said, also within the messages that it holds as bytes."""
    found: list[int] = []
    at = 0
    while at < len(data):
        kind = data[at]
        if 0x80 <= kind < 0xC0:
            found.append(at)
            at += 1 + (kind & 0x1F if kind >= 0xA0 else 0)
        elif kind in _LENGTH_BYTES:
            found.append(at)
            size = _LENGTH_BYTES[kind]
            length = int.from_bytes(data[at + 1 : at + 1 + size], "big")
            # What bytes hold is walked as if it were a message: where it is none, the places are as good as any.
            is_opaque_text = kind in (0xD9, 0xDA, 0xDB)
            at += 1 + size + (length if is_opaque_text else 0)
        else:
            at += 1 + _FIXED_BYTES.get(kind, 0)
    return found
