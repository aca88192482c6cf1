"""Every way into `forms` for bytes of other nodes, for the fuzzers. Its doors have tests of their own."""

from __future__ import annotations

from forms.call_message import MAX_MESSAGE_BYTES, read_answer, read_question
from forms.forms_fact import costs_in, decode_fact
from gossip.message import MAX_FACT_BYTES
from tests.fuzzing import Decoder, seeds_of
from transport.interface import NodeId

PEER = NodeId(b"\x05" * 32)

DECODERS = (
    Decoder(
        "form-question",
        lambda data: read_question(data, PEER),
        seeds_of("forms", "form_call", "form_measure"),
        MAX_MESSAGE_BYTES,
    ),
    Decoder(
        "form-answer",
        lambda data: read_answer(data, PEER),
        seeds_of("forms", "form_accepted", "form_working", "form_answer", "form_failure"),
        MAX_MESSAGE_BYTES,
    ),
    Decoder(
        "fact-forms", lambda data: costs_in(decode_fact(data, PEER)), seeds_of("forms", "fact_forms"), MAX_FACT_BYTES
    ),
)
