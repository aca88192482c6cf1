"""Many whole numbers of one width in one buffer, as frames hold them: little-endian, one after the other. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from forms.arguments import hex_rows
from forms.datum import Datum


@dataclass(frozen=True, slots=True)
class Numbers(Sequence[int]):
    """width: bytes of each."""

    data: bytes | memoryview
    width: int

    @classmethod
    def of(cls, values: Iterable[int], width: int) -> Numbers:
        """Numbers that fit."""
        return cls(b"".join([value.to_bytes(width, "little") for value in values]), width)

    def __len__(self) -> int:
        return len(self.data) // self.width

    def __iter__(self) -> Iterator[int]:
        data, width, from_bytes = bytes(self.data), self.width, int.from_bytes
        return (from_bytes(data[start : start + width], "little") for start in range(0, len(data), width))

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> Numbers: ...
    def __getitem__(self, place: int | slice) -> int | Numbers:
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step != 1:
                raise ValueError("numbers are taken one after the other")
            return Numbers(self.data[start * self.width : max(start, stop) * self.width], self.width)
        start = range(len(self))[place] * self.width
        return int.from_bytes(self.data[start : start + self.width], "little")

    def as_text(self) -> list[Datum]:
        """Hex, most significant digit first, in full width."""
        return hex_rows(bytes(self.data)[::-1], self.width)[::-1]
