"""No bytes bring down what reads them, nor take much memory: each way into `forms`, for a moment."""

from __future__ import annotations

import pytest

from tests.forms.decoders import DECODERS
from tests.fuzz_suite import (
    test_any_bytes_are_read_or_refused,
    test_bent_messages_are_read_or_refused,
    test_it_reads_what_was_meant_for_it,
    test_memory_is_bounded,
    test_what_once_was_trouble_is_none_now,
)

__all__ = [
    "test_any_bytes_are_read_or_refused",
    "test_bent_messages_are_read_or_refused",
    "test_it_reads_what_was_meant_for_it",
    "test_memory_is_bounded",
    "test_what_once_was_trouble_is_none_now",
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
