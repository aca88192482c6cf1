"""What an agent and its worker say to each other, message by message. Pure.

The agent sends a job and gets, in the end, a reply. On the way the worker may ask for memory, which is granted or
refused, and may have something noted in the agent's log. A request or a reply lies in its message, or, where it is
long, at the start of the segment that both share.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from forms.backend import Backend
from forms.computed import Computed
from forms.errors import WorkerLost

TEXT, FRAME = 0, 1
INLINE_BYTES = 1 << 14
"""A payload up to this length lies in its message: there and back 26 µs against 20, and of 64 KiB 51 against 26."""
MAX_MESSAGE_BYTES = INLINE_BYTES + 1024
MAX_WORDS_BYTES = 1000


class Tag(IntEnum):
    """The first byte of a message."""

    JOB = 1
    GRANT = 2
    REPLY = 3
    NEED = 4
    NOTE = 5
    LOST = 6


@dataclass(frozen=True, slots=True)
class Job:
    """What to compute. shared_bytes: how much of the segment it is, where `payload` is empty."""

    kind: int
    payload: bytes
    shared_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Grant:
    """Whether the memory is there; else why not."""

    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """computed: its reply is empty where it lies in the segment, `shared_bytes` of it."""

    computed: Computed
    shared_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Need:
    """The call wants so many bytes more of its device's memory."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the agent's log."""

    line: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker ends: its device cannot be trusted any more. form: whose kernel did that when it was checked."""

    reason: str
    form: str = ""


Message: TypeAlias = "Job | Grant | Reply | Need | Note | Lost"

_JOB = struct.Struct("<BBQ")
_REPLY = struct.Struct("<BBBBQdd")
_NEED = struct.Struct("<BQ")
_BACKENDS = (None, *Backend)


def write_message(message: Message) -> bytes:
    """One message, its tag first."""
    match message:
        case Job(kind, payload, shared_bytes):
            return _JOB.pack(Tag.JOB, kind, shared_bytes) + payload
        case Reply(computed, shared_bytes):
            return _reply_head(computed, shared_bytes) + computed.reply
        case Need(size_bytes):
            return _NEED.pack(Tag.NEED, size_bytes)
        case Grant(words):
            return _words(Tag.GRANT, words)
        case Note(words):
            return _words(Tag.NOTE, words)
        case Lost(reason, form):
            return _words(Tag.LOST, f"{form}\0{reason}")


def read_message(message: bytes) -> Message:
    """What was written. Raises WorkerLost for anything else: its sender is not what it should be."""
    try:
        tag = Tag(message[0])
        match tag:
            case Tag.JOB:
                _, kind, shared_bytes = _JOB.unpack_from(message)
                return Job(kind, message[_JOB.size :], shared_bytes)
            case Tag.REPLY:
                return _read_reply(message)
            case Tag.NEED:
                return Need(_NEED.unpack(message)[1])
            case Tag.GRANT:
                return Grant(message[1:].decode())
            case Tag.NOTE:
                return Note(message[1:].decode())
            case Tag.LOST:
                form, reason = message[1:].decode().split("\0", 1)
                return Lost(reason, form)
    except (struct.error, ValueError, LookupError) as error:
        raise WorkerLost(f"a worker sent what is no message: {message[:20]!r}") from error


def _words(tag: Tag, words: str) -> bytes:
    return bytes([tag]) + words.encode()[:MAX_WORDS_BYTES].decode(errors="ignore").encode()


def _reply_head(computed: Computed, shared_bytes: int) -> bytes:
    name, place = computed.form.encode(), _BACKENDS.index(computed.backend)
    fixed = (computed.is_cold, place, len(name), shared_bytes, computed.work, computed.seconds)
    return _REPLY.pack(Tag.REPLY, *fixed) + name


def _read_reply(message: bytes) -> Reply:
    _, is_cold, place, name_length, shared_bytes, work, seconds = _REPLY.unpack_from(message)
    end = _REPLY.size + name_length
    name = message[_REPLY.size : end].decode()
    return Reply(Computed(message[end:], name, _BACKENDS[place], work, seconds, bool(is_cold)), shared_bytes)
