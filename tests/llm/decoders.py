"""Every way into `llm` for bytes of others, for the fuzzers."""

from __future__ import annotations

import json
import struct
import tempfile
from pathlib import Path

from llm.chat import MAX_MESSAGE_BYTES, read_answer, read_ask
from llm.draft import message as draft
from llm.draft.fact import MAX_FACT_BYTES as MAX_DRAFT_FACT_BYTES
from llm.draft.fact import DraftOffers
from llm.draft.tally import MAX_MESSAGE_BYTES as MAX_TALLY_BYTES
from llm.draft.tally import read_tally
from llm.errors import BadRequest
from llm.events import WholeEvents
from llm.gguf import ARRAY, STRING, UINT16, UINT32, BadModelFile, read_header
from llm.models import message as files
from llm.offer import MAX_FACT_BYTES, decode_offers
from llm.openai import read_request
from llm.split import message as split
from tests.fuzzing import Decoder, seeds_of
from transport import wire
from transport.interface import NodeId, Record, RecordKind

PEER = NodeId(b"\x05" * 32)
BODY_BYTES = 256 << 10


def _events(data: bytes) -> None:
    whole = WholeEvents()
    size = 1 + (data[0] if data else 0)
    out = b"".join(whole.feed(data[at : at + size]) for at in range(0, len(data), size)) + whole.rest()
    assert out == data


def _model_file(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        path.write_bytes(data)
        read_header(path)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _head() -> bytes:
    """Of a model of one tensor, with a value of each kind that is read otherwise than the rest."""
    tokens = struct.pack("<IIQ", ARRAY, STRING, 2) + _text("a") + _text("b")
    nested = struct.pack("<IIQ", ARRAY, ARRAY, 1) + struct.pack("<IQ", UINT16, 3) + bytes(6)
    values = {
        "general.architecture": struct.pack("<I", STRING) + _text("llama"),
        "llama.context_length": struct.pack("<II", UINT32, 8192),
        "general.alignment": struct.pack("<II", UINT32, 32),
        "tokenizer.ggml.tokens": tokens,
        "x.nested": nested,
    }
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(values))
    head += b"".join(_text(key) + value for key, value in values.items())
    head += _text("t") + struct.pack("<IQQIQ", 2, 4, 2, 0, 0)
    return head.ljust(-(-len(head) // 32) * 32, b"\x00") + bytes(32)


_CHAT = json.dumps({"model": "tiny", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()

DECODERS = (
    Decoder("ask", lambda data: read_ask(data, PEER), seeds_of("llm", "chat_ask"), MAX_MESSAGE_BYTES),
    Decoder(
        "answer",
        lambda data: read_answer(data, PEER),
        seeds_of("llm", "chat_accepted", "chat_working", "chat_head", "chat_failure", "chat_failure_final"),
        MAX_MESSAGE_BYTES,
    ),
    Decoder(
        "fact-models",
        lambda data: decode_offers(data, PEER),
        seeds_of("llm", "fact_models", "fact_models_split"),
        MAX_FACT_BYTES,
    ),
    Decoder(
        "draft-wanted",
        lambda data: draft.read_wanted(Record(RecordKind.MESSAGE, data), PEER),
        seeds_of("llm", "draft_wanted"),
        draft.MAX_MESSAGE_BYTES,
    ),
    Decoder(
        "draft-answer",
        lambda data: draft.read_answer(Record(RecordKind.MESSAGE, data), PEER),
        seeds_of("llm", "draft_ready", "draft_refused"),
        draft.MAX_MESSAGE_BYTES,
    ),
    Decoder(
        "draft-question",
        lambda data: draft.read_question(Record(RecordKind.DATA, data), PEER),
        (draft.write_question(draft.Question(70_000, (17, 151_935), 8)).payload,),
        5 + 4 * draft.MOST_NEW,
    ),
    Decoder(
        "draft-proposal",
        lambda data: draft.read_proposal(Record(RecordKind.DATA, data), PEER),
        (draft.write_proposal(draft.Proposal((3, 1, 4, 1, 5), 0.0123)).payload,),
        2 + 4 * draft.MOST_DRAFTED,
    ),
    Decoder(
        "draft-tally",
        lambda data: read_tally(Record(RecordKind.MESSAGE, data)),
        seeds_of("llm", "draft_tally"),
        MAX_TALLY_BYTES,
    ),
    Decoder(
        "fact-draft",
        lambda data: wire.decode(data, DraftOffers, peer=PEER, max_bytes=MAX_DRAFT_FACT_BYTES),
        seeds_of("llm", "fact_draft"),
        MAX_DRAFT_FACT_BYTES,
    ),
    Decoder(
        "split-prepare",
        lambda data: split.read_prepare(Record(RecordKind.MESSAGE, data), PEER),
        seeds_of("llm", "split_prepare"),
        split.MAX_MESSAGE_BYTES,
    ),
    Decoder(
        "split-answer",
        lambda data: split.read_answer(Record(RecordKind.MESSAGE, data), PEER),
        seeds_of("llm", "split_preparing", "split_prepared", "split_refused"),
        split.MAX_MESSAGE_BYTES,
    ),
    Decoder(
        "files-question",
        lambda data: files.read_question(Record(RecordKind.MESSAGE, data), PEER),
        seeds_of("llm", "files_which"),
        files.MAX_QUESTION_BYTES,
    ),
    Decoder(
        "files-answer",
        lambda data: files.read_answer(Record(RecordKind.MESSAGE, data), PEER),
        seeds_of("llm", "files_these", "files_none"),
        files.MAX_MESSAGE_BYTES,
    ),
    Decoder(
        "openai-request",
        lambda data: read_request("POST", "/v1/chat/completions", "application/json", data),
        (_CHAT,),
        BODY_BYTES,
        (BadRequest,),
    ),
    Decoder("events", _events, (b"data: 1\n\ndata: 2\r\n\r\nevent: x\r\r",), 16 << 10, ()),
    Decoder("model-file", _model_file, (_head(),), BODY_BYTES, (BadModelFile,)),
)
