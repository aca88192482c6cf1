"""The stream protocol chat/1: one HTTP-shaped request to a host and its answer back.

    asker → host    MESSAGE Ask, DATA … (exactly `body_bytes`), FIN once the answer has ended
    host → asker    MESSAGE Accepted, MESSAGE Head, DATA …, FIN; MESSAGE Working while nothing else is sent

`Failure` may take the place of anything that has not been sent yet and is followed by FIN. The asker keeps its
side open so that its reset reaches a host that is only listening. Only a FIN after Head means a whole answer.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from llm.errors import RemoteFailure, RequestFailed
from transport.interface import NodeId, Record, RecordKind
from transport.wire import decode, encode, printable

CHAT_PROTOCOL = "chat/1"
MAX_BODY_BYTES = 64 << 20
MAX_MESSAGE_BYTES = 128 << 10
DATA_BYTES = 256 << 10
"""Larger pieces of a body or an answer are sent as several records."""

ACCEPT_TIMEOUT_S = 2.0
"""A host that lives says Accepted within a round trip; one that does not is left for another."""
WORKING_INTERVAL_S = 1.5
SILENCE_TIMEOUT_S = 5.0
"""Three missed Working messages and a half: the host is gone, whatever its link still says."""

Method = Annotated[str, msgspec.Meta(pattern=r"\A(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)\Z")]
# No line breaks or other control characters: these become lines of an HTTP request or answer.
HeaderName = Annotated[str, msgspec.Meta(pattern=r"\A[!#$%&'*+.^_`|~0-9a-z-]{1,128}\Z")]
HeaderValue = Annotated[str, msgspec.Meta(pattern=r"\A[\t\x20-\x7e\x80-\xff]*\Z", max_length=16384)]
HeaderList = Annotated[tuple[tuple[HeaderName, HeaderValue], ...], msgspec.Meta(max_length=200)]
Path = Annotated[str, msgspec.Meta(pattern=r"\A/[\x21-\x7e]*\Z", max_length=8192)]
ModelName = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Word = Annotated[str, msgspec.Meta(max_length=64)]


class Ask(msgspec.Struct, frozen=True, tag="ask", omit_defaults=True):
    """identity: which file the asker means by `model` (`llm.offer`); another one must not answer.  caller: whom the
    asker asks for; a host gives its askers' callers turns alike, and all callers of a client one.
    """

    model: ModelName
    identity: Annotated[str, msgspec.Meta(max_length=64)]
    method: Method
    path: Path
    headers: HeaderList
    body_bytes: Annotated[int, msgspec.Meta(ge=0)]
    caller: Annotated[str, msgspec.Meta(max_length=32)] = ""


class Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    """The host has read the Ask and will answer."""


class Working(msgspec.Struct, frozen=True, tag="working", omit_defaults=True):
    """The host lives and its engine has not given up. note: what a long wait is for, such as a model that loads."""

    note: Annotated[str, msgspec.Meta(max_length=512)] = ""


class Head(msgspec.Struct, frozen=True, tag="head"):
    """Status and headers of the answer, hop-by-hop ones already removed."""

    status: Annotated[int, msgspec.Meta(ge=200, le=599)]
    headers: HeaderList


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """Why there is no answer, or no more of it; the fields of `llm.errors.RequestFailed`."""

    status: Annotated[int, msgspec.Meta(ge=400, le=599)]
    kind: Word
    code: Word | None
    param: Word | None
    message: Annotated[str, msgspec.Meta(max_length=4096)]
    retryable: bool
    retry_after_s: Annotated[int, msgspec.Meta(ge=0, le=86400)] | None


HostMessage = Accepted | Working | Head | Failure


def message(content: Ask | HostMessage) -> Record:
    """The record that carries `content`."""
    return Record(RecordKind.MESSAGE, encode(content))


def data_records(body: bytes) -> list[Record]:
    """The records that carry `body`, each of at most DATA_BYTES. A small body is not copied."""
    if len(body) <= DATA_BYTES:
        return [Record(RecordKind.DATA, body)] if body else []
    return [Record(RecordKind.DATA, body[at : at + DATA_BYTES]) for at in range(0, len(body), DATA_BYTES)]


def read_ask(payload: bytes, peer: NodeId) -> Ask:
    """The Ask in a MESSAGE record. Raises ProtocolError."""
    return decode(payload, Ask, peer=peer, max_bytes=MAX_MESSAGE_BYTES)


def read_answer(payload: bytes, peer: NodeId) -> HostMessage:
    """The host's message in a MESSAGE record. Raises ProtocolError."""
    answer: HostMessage = decode(payload, HostMessage, peer=peer, max_bytes=MAX_MESSAGE_BYTES)
    return answer


def failure_of(error: RequestFailed, *, retryable: bool) -> Failure:
    """`error` for the wire."""
    return Failure(
        status=error.status,
        kind=error.kind,
        code=error.code,
        param=error.param,
        message=str(error)[:4096],
        retryable=retryable,
        retry_after_s=error.retry_after_s,
    )


def error_of(failure: Failure, node_name: str) -> RequestFailed:
    """`failure` as the error to raise here, naming the node that said it."""
    text = f"{printable(failure.message, 4096)} (said by node {node_name})"
    error = RemoteFailure(text, status=failure.status, kind=failure.kind, code=failure.code)
    error.param = failure.param
    error.retryable = failure.retryable
    error.retry_after_s = failure.retry_after_s
    return error
