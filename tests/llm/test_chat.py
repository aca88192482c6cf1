"""The messages of chat/1 survive the wire, and nothing else gets through."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.chat import (
    DATA_BYTES,
    Accepted,
    Ask,
    Failure,
    Head,
    HostMessage,
    Working,
    data_records,
    error_of,
    failure_of,
    message,
    read_answer,
    read_ask,
)
from llm.errors import BadRequest, QueueFull, UnknownModel
from transport.errors import ProtocolError
from transport.interface import NodeId, RecordKind
from transport.wire import encode

PEER = NodeId(b"\x05" * 32)
ASK = Ask("tiny", "", "POST", "/v1/chat/completions?x=1", (("content-type", "application/json"),), 17)


def test_an_ask_survives_the_wire() -> None:
    assert read_ask(message(ASK).payload, PEER) == ASK


@pytest.mark.parametrize(
    "answer",
    [Accepted(), Working(), Head(200, (("x", "y"),)), failure_of(QueueFull("full"), retryable=True)],
)
def test_every_answer_survives_the_wire(answer: HostMessage) -> None:
    record = message(answer)
    assert record.kind is RecordKind.MESSAGE
    assert read_answer(record.payload, PEER) == answer


@pytest.mark.parametrize(
    "change",
    [
        {"path": "no-slash"},
        {"path": "/a b"},
        {"path": "/a\r\nHost: evil"},
        {"path": "/" + "a" * 9000},
        {"method": "BREW"},
        {"method": "GET\n"},
        {"headers": (("Upper", "x"),)},
        {"headers": (("x", "a\r\nb: c"),)},
        {"headers": (("x:", "a"),)},
        {"headers": (("x", "a"),) * 201},
        {"body_bytes": -1},
        {"model": ""},
        {"model": "m" * 300},
    ],
)
def test_an_ask_that_http_would_not_allow_is_refused(change: dict[str, object]) -> None:
    bad = msgspec.structs.replace(ASK, **change)
    with pytest.raises(ProtocolError, match="from node"):
        read_ask(encode(bad), PEER)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_as_the_peers_fault(data: bytes) -> None:
    for read in (read_ask, read_answer):
        try:
            read(data, PEER)
        except ProtocolError:
            continue


@given(st.binary(max_size=40), st.integers(0, 400))
def test_a_damaged_message_is_read_or_refused(noise: bytes, place: int) -> None:
    whole = message(ASK).payload
    try:
        read_ask(whole[:place] + noise + whole[place + len(noise) :], PEER)
    except ProtocolError:
        return


@given(st.binary(max_size=3 * DATA_BYTES + 5) | st.just(b"x" * (2 * DATA_BYTES)))
def test_a_body_is_cut_into_records_and_whole_again(body: bytes) -> None:
    records = data_records(body)
    assert b"".join(record.payload for record in records) == body
    assert all(record.kind is RecordKind.DATA and 0 < len(record.payload) <= DATA_BYTES for record in records)


def test_an_error_keeps_what_the_client_is_told_and_names_the_node() -> None:
    for error in (QueueFull("full"), UnknownModel("x", ["a"]), BadRequest("odd", param="stream")):
        told = error_of(failure_of(error, retryable=error.retryable), "attic")
        assert (told.status, told.kind, told.code, told.param, told.retryable, told.retry_after_s) == (
            *(error.status, error.kind, error.code, error.param),
            *(error.retryable, error.retry_after_s),
        )
        assert str(error) in str(told)
        assert "attic" in str(told)


def test_a_hosts_words_are_made_safe_to_show() -> None:
    failure = Failure(500, "server_error", None, None, "a\x1b[31mb\nc", False, None)
    assert "\x1b" not in str(error_of(failure, "attic"))
