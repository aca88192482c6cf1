"""What the fuzzers keep is tried by somebody."""

from __future__ import annotations

import importlib

from tests.fuzzing import Decoder, corpus
from tests.golden import PACKAGES, TESTS

DECODERS: list[Decoder] = [
    decoder for package in PACKAGES for decoder in importlib.import_module(f"tests.{package}.decoders").DECODERS
]


def test_decoders_have_names_of_their_own() -> None:
    assert len({decoder.name for decoder in DECODERS}) == len(DECODERS)


def test_every_corpus_belongs_to_a_decoder() -> None:
    kept = {path.stem for path in (TESTS / "corpus").glob("*.hex")}
    assert kept
    assert kept <= {decoder.name for decoder in DECODERS}
    assert all(corpus(decoder) for decoder in DECODERS if decoder.name in kept)
