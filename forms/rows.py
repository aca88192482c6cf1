"""Many byte strings in one buffer: what a call of a million inputs holds instead of a million objects. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, overload

from forms.frame import U32

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Rows(Sequence[bytes]):
    """Row i is what lies in `data` from `starts[i]` on. lengths: in bytes; an int where all have the same."""

    data: bytes | memoryview
    starts: range | array[int]
    lengths: int | array[int]

    @classmethod
    def even(cls, data: bytes | memoryview, width: int, count: int, first: int = 0, gap: int = 0) -> Rows:
        """`count` rows of `width` bytes, from `first` on, `gap` bytes between them."""
        # A step must not be 0; where rows are empty it does not matter where they start.
        step = width + gap or 1
        return cls(data, range(first, first + count * step, step), width)

    @classmethod
    def of(cls, rows: Sequence[bytes]) -> Rows:
        """The same rows in one buffer."""
        lengths = array("q", map(len, rows))
        if rows and len(set(lengths)) == 1:
            return cls.even(b"".join(rows), lengths[0], len(rows))
        return cls(b"".join(rows), array("q", accumulate(lengths[:-1], initial=0)) if rows else lengths, lengths)

    @classmethod
    def framed(cls, frame: bytes | memoryview, first: int, count: int) -> Rows:
        """`count` times u32 length and bytes, from `first` on; the frame was measured."""
        if count and (width := common_width(frame, first, count)) is not None:
            return cls.even(frame, width, count, first + U32.size, U32.size)
        starts, lengths = array("q"), array("q")
        at = first
        for _ in range(count):
            (length,) = U32.unpack_from(frame, at)
            at += U32.size
            starts.append(at)
            lengths.append(length)
            at += length
        return cls(frame, starts, lengths)

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[bytes]:
        data = self.data
        if isinstance(self.lengths, int):
            width = self.lengths
            return (bytes(data[start : start + width]) for start in self.starts)
        return (bytes(data[start : start + length]) for start, length in zip(self.starts, self.lengths, strict=True))

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> Rows: ...
    def __getitem__(self, place: int | slice) -> bytes | Rows:
        lengths = self.lengths if isinstance(self.lengths, int) else self.lengths[place]
        if isinstance(place, slice):
            return Rows(self.data, self.starts[place], lengths)
        start = self.starts[place]
        assert isinstance(lengths, int)
        return bytes(self.data[start : start + lengths])

    def length(self, place: int) -> int:
        """Of one row, in bytes."""
        return self.lengths if isinstance(self.lengths, int) else self.lengths[place]

    @property
    def is_packed(self) -> bool:
        """Whether `data` is the rows, all of one length, and nothing else."""
        return isinstance(self.lengths, int) and len(self) * self.lengths == len(self.data)

    def total(self, of_length: Callable[[int], int]) -> int:
        """The sum of a number that depends on a row's length."""
        if isinstance(self.lengths, int):
            return len(self) * of_length(self.lengths)
        return sum(map(of_length, self.lengths))

    def arrays(self) -> tuple[NDArray[numpy.uint8], NDArray[numpy.int64], NDArray[numpy.int64]]:
        """The data, and of each row its start and its length."""
        import numpy  # 20 MB that a node which never computes need not hold

        even = self.starts
        if isinstance(even, range):
            starts = numpy.arange(even.start, even.stop, even.step, dtype=numpy.int64)
        else:
            starts = numpy.array(even, numpy.int64)
        lengths = numpy.empty(len(self), numpy.int64)
        lengths[:] = self.lengths
        return numpy.frombuffer(self.data, numpy.uint8), starts, lengths


def common_width(frame: bytes | bytearray | memoryview, first: int, count: int) -> int | None:
    """The length that all of `count` framed rows have, or None; sees it without looking at one after the other."""
    width: int = U32.unpack_from(frame, first)[0]
    step = U32.size + width
    end = first + count * step
    if end > len(frame):
        return None
    for place, byte in enumerate(U32.pack(width)):
        if bytes(frame[first + place : end : step]) != bytes([byte]) * count:
            return None
    return width
