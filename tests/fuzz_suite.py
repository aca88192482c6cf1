"""What every decoder is held to. A package's test_fuzz.py takes all of it, for its own `DECODERS`."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzzing import Decoder, bend, bent, bombs, corpus, peak_bytes

__all__ = [
    "pytest_generate_tests",
    "test_any_bytes_are_read_or_refused",
    "test_bent_messages_are_read_or_refused",
    "test_it_reads_what_was_meant_for_it",
    "test_memory_is_bounded",
    "test_what_once_was_trouble_is_none_now",
]

often = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("decoder", metafunc.module.DECODERS, ids=lambda decoder: decoder.name)


def test_it_reads_what_was_meant_for_it(decoder: Decoder) -> None:
    for seed in decoder.seeds:
        decoder.try_read(seed)
    assert any(decoder.try_read(seed) for seed in decoder.seeds)


@often
@given(st.data())
def test_bent_messages_are_read_or_refused(decoder: Decoder, data: st.DataObject) -> None:
    decoder.try_read(data.draw(bent(decoder)))


@often
@given(noise=st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(decoder: Decoder, noise: bytes) -> None:
    decoder.try_read(noise)


def test_what_once_was_trouble_is_none_now(decoder: Decoder) -> None:
    for data in corpus(decoder):
        decoder.try_read(data)


def test_memory_is_bounded(decoder: Decoder) -> None:
    dice = random.Random(decoder.name)
    bent_seeds = [bend(dice.choice(decoder.seeds), decoder.seeds, dice.randrange(1, 4), dice) for _ in range(100)]
    assert peak_bytes(decoder, bent_seeds) < decoder.bent_bytes
    assert peak_bytes(decoder, bombs(decoder.max_bytes)) < decoder.peak_bytes
