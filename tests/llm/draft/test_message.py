from __future__ import annotations

import pytest

from llm.draft.message import (
    MOST_DRAFTED,
    MOST_NEW,
    MOST_TOKENS,
    Proposal,
    Question,
    read_proposal,
    read_question,
    write_proposal,
    write_question,
)
from transport.errors import ProtocolError
from transport.interface import NodeId, Record, RecordKind

PEER = NodeId(b"\x05" * 32)


def test_a_block_of_a_few_tokens_takes_a_few_bytes() -> None:
    """The design's 22 to 34 bytes: one token told, three to five drafted."""
    told = len(write_question(Question(100_000, (7,), 5)).payload)
    sizes = [told + len(write_proposal(Proposal(range(count), 0.01)).payload) for count in (3, 4, 5)]
    assert sizes == [23, 27, 31]


def test_blocks_are_read_as_they_were_written() -> None:
    question = Question(MOST_TOKENS, (0, 2**32 - 1), MOST_DRAFTED)
    assert read_question(write_question(question), PEER) == question
    proposal = Proposal((5, 6, 7), 0.0123)
    read = read_proposal(write_proposal(proposal), PEER)
    assert tuple(read.ids) == (5, 6, 7)
    assert read.took_s == pytest.approx(0.0123)


def test_what_takes_longer_than_can_be_said_is_said_to_take_that_long() -> None:
    assert read_proposal(write_proposal(Proposal((), 60.0)), PEER).took_s == pytest.approx(6.5535)


@pytest.mark.parametrize(
    "record",
    [
        write_question(Question(0, (1,), MOST_DRAFTED + 1)),
        write_question(Question(MOST_TOKENS + 1, (1,), 1)),
        write_question(Question(0, (1,) * (MOST_NEW + 1), 1)),
        Record(RecordKind.DATA, write_question(Question(0, (1,), 1)).payload[:-1]),
        Record(RecordKind.DATA, b""),
        Record(RecordKind.MESSAGE, write_question(Question(0, (1,), 1)).payload),
    ],
)
def test_a_question_that_cannot_be_is_refused_and_its_sender_named(record: Record) -> None:
    with pytest.raises(ProtocolError, match=r"draft/1.*node "):
        read_question(record, PEER)


def test_a_proposal_of_more_than_may_be_asked_for_is_refused() -> None:
    with pytest.raises(ProtocolError, match="draft/1"):
        read_proposal(write_proposal(Proposal((1,) * (MOST_DRAFTED + 1), 0.0)), PEER)
