"""1: Philox gives Random123's words, any slice of them, and the same ones for ever."""

from __future__ import annotations

import hashlib

import numpy
import pytest

from forms.poc.philox import blocks, philox, words

ALL = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ALL, ALL, ALL, ALL), (ALL, ALL), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_the_vectors_of_random123(
    counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, int, int, int]
) -> None:
    zero, one, two, three = (numpy.array([word], numpy.uint32) for word in counter)
    assert tuple(int(word[0]) for word in philox((zero, one, two, three), key)) == expected


@pytest.mark.parametrize(("start", "count"), [(0, 1), (3, 2), (4, 8), (997, 3), (17, 0)])
def test_a_slice_is_what_stands_there(start: int, count: int) -> None:
    assert numpy.array_equal(words(7, start, count, stream=9), words(7, 0, 1000, stream=9)[start : start + count])


def test_streams_of_one_call_are_those_of_many() -> None:
    together = blocks(7, numpy.arange(3, dtype=numpy.uint64)[None, :], numpy.array([[5], [1 << 40]], numpy.uint64))
    assert numpy.array_equal(together[1].ravel(), words(7, 0, 12, stream=1 << 40))


def test_a_million_words_stay_what_they_are() -> None:
    digest = hashlib.sha256(words(0x0123456789ABCDEF, 0, 1_000_000).astype("<u4").tobytes()).hexdigest()
    assert digest == "a64102ec5b4a013c015fb30ac47cbd7a1b452b26b197cb9bd8777df9581ebf81"
