"""Bytes that were written down once are read as they were meant, and written alike."""

from __future__ import annotations

import pytest

from llm.chat import read_answer, read_ask
from llm.draft import message as draft
from llm.draft.fact import MAX_FACT_BYTES as MAX_DRAFT_FACT_BYTES
from llm.draft.fact import DraftOffers
from llm.draft.tally import read_tally
from llm.models import message as files
from llm.offer import decode_offers
from llm.split import message as split
from tests.golden import Vector, check, vectors
from tests.llm import examples
from transport import wire
from transport.interface import NodeId, Record, RecordKind
from transport.record import RecordReader

VECTORS = vectors("llm")
PEER = NodeId(b"\x05" * 32)


def name_of(vector: Vector) -> str:
    return vector.path.stem


@pytest.mark.parametrize("vector", VECTORS, ids=name_of)
def test_a_vector_is_read_as_it_was_meant_and_written_alike(vector: Vector) -> None:
    check(vector)


def test_every_example_has_its_vector() -> None:
    assert {name_of(vector) for vector in VECTORS} >= examples.examples().keys(), "run python -m tools.vectors"


@pytest.mark.parametrize("vector", VECTORS, ids=name_of)
def test_it_passes_the_limits_of_its_place(vector: Vector) -> None:
    match vector.codec:
        case "llm.chat.Ask":
            read_ask(vector.data, PEER)
        case "llm.offer.Offers":
            assert decode_offers(vector.data, PEER)
        case "llm.split.message.Prepare":
            split.read_prepare(Record(RecordKind.MESSAGE, vector.data), PEER)
        case "llm.draft.fact.DraftOffers":
            assert wire.decode(vector.data, DraftOffers, peer=PEER, max_bytes=MAX_DRAFT_FACT_BYTES).drafters
        case "llm.draft.message.Wanted":
            draft.read_wanted(Record(RecordKind.MESSAGE, vector.data), PEER)
        case "llm.draft.tally.Tally":
            read_tally(Record(RecordKind.MESSAGE, vector.data))
        case codec if codec.startswith("llm.draft."):
            draft.read_answer(Record(RecordKind.MESSAGE, vector.data), PEER)
        case "records":
            (record,) = RecordReader().feed(vector.data)
            read = draft.read_question if "question" in vector.path.stem else draft.read_proposal
            read(record, PEER)
        case "llm.models.message.WhichFiles":
            files.read_question(Record(RecordKind.MESSAGE, vector.data), PEER)
        case codec if codec.startswith("llm.models."):
            files.read_answer(Record(RecordKind.MESSAGE, vector.data), PEER)
        case codec if codec.startswith("llm.split."):
            split.read_answer(Record(RecordKind.MESSAGE, vector.data), PEER)
        case _:
            read_answer(vector.data, PEER)
