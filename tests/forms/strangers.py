"""Forms as others might write them: a good one, and those that are wrong in some way."""

from __future__ import annotations

import struct
from typing import Any

from forms.arguments import expect_count, hex_rows, read_byte_strings
from forms.blob_names import FindBlob
from forms.datum import Datum
from forms.frame import Body, HeadMeasure

HEAD = struct.Struct("<4sI")
ROW = 8


class Mirror:
    """`(mirror '("hex" …))`: rows of eight bytes, each turned around. Frame: `BMIR` u32 n, rows."""

    name = "mirror"
    magic = b"BMIR"
    reply_magic = b"BMIO"

    def read_text(self, arguments: list[Datum]) -> list[bytes]:
        expect_count(self.name, arguments, 1, 1)
        return [row.rjust(ROW, b"\0")[:ROW] for row in read_byte_strings(arguments[0])]

    def write_text(self, result: list[bytes]) -> Datum:
        return hex_rows(b"".join(result), ROW)

    def measure(self, limit_bytes: int) -> Any:
        return HeadMeasure(HEAD, lambda fields: Body(length=ROW * fields[0]), limit_bytes)

    def read_frame(self, frame: bytes) -> list[bytes]:
        return [frame[at : at + ROW] for at in range(HEAD.size, len(frame), ROW)]

    def write_frame(self, result: list[bytes]) -> bytes:
        return HEAD.pack(self.reply_magic, len(result)) + b"".join(result)

    def reply_bytes(self, call: list[bytes]) -> int:
        return HEAD.size + ROW * len(call)

    def work(self, call: list[bytes]) -> float:
        return float(len(call))

    def reference(self, call: list[bytes]) -> list[bytes]:
        return [row[::-1] for row in call]

    def fast(self, call: list[bytes]) -> list[bytes]:
        return self.reference(call)


class Weigher(Mirror):
    """`(weigh '("hex" …))`: rows of 32 bytes, each the digest of a blob; the answer is their lengths."""

    name = "weigh"
    magic = b"BWEI"
    reply_magic = b"BWEO"
    find: FindBlob

    def use_blobs(self, find: FindBlob) -> None:
        self.find = find

    def blobs(self, call: list[bytes]) -> list[str]:
        return [row.hex() for row in call]

    def read_text(self, arguments: list[Datum]) -> list[bytes]:
        expect_count(self.name, arguments, 1, 1)
        return read_byte_strings(arguments[0])

    def measure(self, limit_bytes: int) -> Any:
        return HeadMeasure(HEAD, lambda fields: Body(length=32 * fields[0]), limit_bytes)

    def read_frame(self, frame: bytes) -> list[bytes]:
        return [frame[at : at + 32] for at in range(HEAD.size, len(frame), 32)]

    def reference(self, call: list[bytes]) -> list[bytes]:
        return [self.find(row.hex()).stat().st_size.to_bytes(ROW, "big") for row in call]


class OtherMirror(Mirror):
    """Of a name that is taken."""

    magic = b"BMI2"


class SameMagic(Mirror):
    name = "same-magic"


class BlobMagic(Mirror):
    name = "blob-magic"
    magic = b"BPUT"


class LowerMagic(Mirror):
    name = "lower-magic"
    magic = b"mirr"


class Ping(Mirror):
    name = "ping"


class OursAlready(Mirror):
    name = "cuda-sim-axis"
    magic = b"BMI3"


class NoWork(Mirror):
    name = "no-work"
    magic = b"BMI4"
    work = None  # type: ignore[assignment]


class Raises:
    """Cannot even be made."""

    def __init__(self) -> None:
        raise RuntimeError("no such device")


class Broken(Mirror):
    """Can be used, and then fails in every way that there is."""

    name = "broken"
    magic = b"BBRK"

    def read_text(self, arguments: list[Datum]) -> list[bytes]:
        return [] if not arguments else super().read_text(arguments)

    def measure(self, limit_bytes: int) -> Any:
        return self

    def advance(self, received: bytearray) -> int:
        if len(received) < HEAD.size:
            return HEAD.size
        match received[4]:
            case 0:
                return 0
            case 1:
                return "eight"  # type: ignore[return-value]
            case _:
                raise RecursionError("lost")

    def reference(self, call: list[bytes]) -> list[bytes]:
        raise RuntimeError("it never worked")


text_only = Mirror()
text_only.name, text_only.magic, text_only.reply_magic = "text-only", b"", b""
