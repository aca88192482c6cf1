"""What an agent and its worker say comes over as it was said, and nothing else passes for it."""

from __future__ import annotations

import pytest

from forms.backend import Backend
from forms.computed import Computed
from forms.errors import WorkerLost
from forms.worker_pipe import (
    FRAME,
    INLINE_BYTES,
    MAX_MESSAGE_BYTES,
    TEXT,
    Grant,
    Job,
    Lost,
    Message,
    Need,
    Note,
    Reply,
    read_message,
    write_message,
)


@pytest.mark.parametrize(
    "message",
    [
        Job(TEXT, b"(ping)"),
        Job(FRAME, bytes(INLINE_BYTES)),
        Job(FRAME, b"", 1 << 40),
        Grant(),
        Grant("no memory für diesen Ruf"),
        Need(1 << 40),
        Note("a line"),
        Lost("gone"),
        Lost("gone", "a-form"),
        *[Reply(Computed(b"reply", "a-form", backend, 12.5, 0.25, True)) for backend in (None, *Backend)],
        Reply(Computed(b"", "f" * 200, Backend.CPU), 1 << 33),
        Reply(Computed(bytes(INLINE_BYTES), "f" * 200)),
    ],
)
def test_what_is_said_is_heard(message: Message) -> None:
    sent = write_message(message)
    assert len(sent) <= MAX_MESSAGE_BYTES
    assert read_message(sent) == message


def test_words_are_cut_and_stay_words() -> None:
    said = read_message(write_message(Note("ü" * 5000)))
    assert isinstance(said, Note)
    assert 400 < len(said.line) < 600


@pytest.mark.parametrize("sent", [b"", b"\x00", b"\x09x", b"\x01", b"\x03abc", b"\x04\x00", b"\x05\xff"])
def test_anything_else_is_refused(sent: bytes) -> None:
    with pytest.raises(WorkerLost):
        read_message(sent)
