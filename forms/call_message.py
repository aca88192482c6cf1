"""The stream protocol form/1: one call, text or frame, to a node that computes it, and its reply.

    asker → node    MESSAGE FormCall, DATA … (exactly `size`), FIN once the reply has ended
    node → asker    MESSAGE FormAccepted, MESSAGE FormAnswer, DATA … (exactly its `size`), FIN;
                    MESSAGE FormWorking while nothing else is sent

An error of the call itself is a reply like any other. FormFailure says that this node did not compute it, so that
another may: it takes the place of what has not been sent yet, and FIN follows. FormMeasure asks a node to find out
what its forms cost; FormAccepted and FIN are all of its answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec

from forms.computed import Computed
from forms.errors import BeyondLimit, Busy, FormFailed, Kind, NotFound, WorkerLost
from forms.form import FRAME_LIMIT
from forms.request import FormName
from transport.interface import NodeId, Record, RecordKind
from transport.wire import ShortText, decode, encode, printable

PROTOCOL = "form/1"
MAX_MESSAGE_BYTES = 8 << 10
DATA_BYTES = 256 << 10
"""Larger pieces are sent as several records."""
WORKING_INTERVAL_S = 1.5
SILENCE_S = 5.0
"""Three missed FormWorking and a half: the node is gone, whatever its link still says."""

Size = Annotated[int, msgspec.Meta(ge=0, le=FRAME_LIMIT)]
Seconds = Annotated[float, msgspec.Meta(ge=0, lt=1e9)]


class FormCall(msgspec.Struct, frozen=True, tag="call"):
    """size: of the datum or the frame that follows."""

    is_text: bool
    size: Size


class FormMeasure(msgspec.Struct, frozen=True, tag="measure"):
    """Find out what your forms cost, unless you know: somebody has calls for this mesh."""


class FormAccepted(msgspec.Struct, frozen=True, tag="accepted"):
    """The node has read the first message and will answer."""


class FormWorking(msgspec.Struct, frozen=True, tag="working"):
    """The node lives, and has not given up."""


class FormAnswer(msgspec.Struct, frozen=True, tag="answer"):
    """The reply follows. What the worker said of it (`forms.computed`), and of this node's time.

    held_s: from the whole request to this message.  queue_s: how long another call would wait now.
    """

    size: Size
    form: FormName
    backend: ShortText
    work: Annotated[float, msgspec.Meta(ge=0)]
    seconds: Seconds
    is_cold: bool
    held_s: Seconds
    queue_s: Seconds


class FormFailure(msgspec.Struct, frozen=True, tag="failure"):
    """Why this node has no reply; the codes of `forms.errors.Kind`."""

    code: Annotated[int, msgspec.Meta(ge=1, le=8)]
    message: Annotated[str, msgspec.Meta(max_length=2000)]


Question = FormCall | FormMeasure
NodeMessage = FormAccepted | FormWorking | FormAnswer | FormFailure

_TOLD: dict[Kind, type[FormFailed]] = {Kind.BUSY: Busy, Kind.LIMIT: BeyondLimit, Kind.NOT_FOUND: NotFound}
"""Others are this node's loss of the one that was asked."""


def message(content: Question | NodeMessage) -> Record:
    """The record that carries `content`."""
    return Record(RecordKind.MESSAGE, encode(content))


def data_records(body: bytes) -> Iterator[Record]:
    """The records that carry `body`, each made when it is its turn. A small one is not copied."""
    if 0 < len(body) <= DATA_BYTES:
        yield Record(RecordKind.DATA, body)
        return
    view = memoryview(body)
    for at in range(0, len(body), DATA_BYTES):
        yield Record(RecordKind.DATA, bytes(view[at : at + DATA_BYTES]))


def read_question(payload: bytes, peer: NodeId) -> Question:
    """The asker's message. Raises ProtocolError."""
    question: Question = decode(payload, Question, peer=peer, max_bytes=MAX_MESSAGE_BYTES)
    return question


def read_answer(payload: bytes, peer: NodeId) -> NodeMessage:
    """The node's message. Raises ProtocolError."""
    answer: NodeMessage = decode(payload, NodeMessage, peer=peer, max_bytes=MAX_MESSAGE_BYTES)
    return answer


def answer_of(done: Computed, held_s: float, queue_s: float) -> FormAnswer:
    """What is sent before the reply of `done`."""
    backend = done.backend.value if done.backend is not None else ""
    size, form = len(done.reply), done.form[:128]
    return FormAnswer(size, form, backend, done.work, done.seconds, done.is_cold, held_s, queue_s)


def failure_of(error: FormFailed) -> FormFailure:
    """`error` for the wire."""
    return FormFailure(error.kind.value, str(error)[:2000])


def error_of(failure: FormFailure, node_name: str) -> FormFailed:
    """`failure` as the error to raise here, naming the node that said it."""
    kind = _TOLD.get(Kind(failure.code), WorkerLost)
    return kind(f"{printable(failure.message, 2000)} (said by node {node_name})")
