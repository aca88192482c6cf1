"""What every form keeps, whoever wrote it. A test class brings `form`, `calls` and `larger`.

calls: text calls, one for each edge worth looking at.  larger: calls that are each more work than the one before.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import pytest

from forms.datum import Datum, Symbol
from forms.errors import FormFailed
from forms.form import FRAME_LIMIT, Form
from forms.reader import read_datum
from forms.writer import write_datum


def arguments_of(text: str) -> list[Datum]:
    """What stands behind the name in a text call."""
    datum = read_datum(text)
    assert isinstance(datum, list)
    assert isinstance(datum[0], Symbol)
    return datum[1:]


def length_of(form: Form[Any, Any], frame: bytes, limit: int = FRAME_LIMIT, pieces: int = 7) -> int:
    """What the form's measure says, fed a few bytes at a time, never more than it asked for."""
    measure, received = form.measure(limit), bytearray()
    while True:
        needed = measure.advance(received)
        if len(received) >= needed:
            assert len(received) == needed
            return needed
        assert len(received) < len(frame), f"asked for {needed} bytes of a frame of {len(frame)}"
        received += frame[len(received) : min(needed, len(received) + pieces)]


class FormSuite:
    """Subclass it with the class attributes above, and `frame`, which writes a call as a client would."""

    form: Form[Any, Any]
    calls: Sequence[str]
    larger: Sequence[str]

    def frame(self, text: str) -> bytes:
        """The frame that asks what `text` asks."""
        raise NotImplementedError

    def test_text_and_frames_ask_for_the_same(self) -> None:
        for text in self.calls:
            by_text = self.form.reference(self.form.read_text(arguments_of(text)))
            by_frame = self.form.reference(self.form.read_frame(self.frame(text)))
            assert by_text == by_frame, text

    def test_a_frame_is_measured_while_it_comes(self) -> None:
        for text in self.calls:
            frame = self.frame(text)
            assert length_of(self.form, frame) == len(frame)
            assert length_of(self.form, frame + b"B" * 100) == len(frame)

    def test_the_reply_is_as_long_as_was_said_before(self) -> None:
        for text in self.calls:
            call = self.form.read_text(arguments_of(text))
            reply = self.form.write_frame(self.form.reference(call))
            assert len(reply) == self.form.reply_bytes(call)
            assert reply.startswith(self.form.reply_magic)

    def test_text_replies_can_be_read(self) -> None:
        for text in self.calls:
            said = self.form.write_text(self.form.reference(self.form.read_text(arguments_of(text))))
            assert read_datum(write_datum(said)) == said

    def test_work_grows(self) -> None:
        work = [self.form.work(self.form.read_text(arguments_of(text))) for text in self.larger]
        assert work == sorted(set(work))
        assert all(self.form.work(self.form.read_text(arguments_of(text))) >= 0 for text in self.calls)

    def test_frames_beyond_the_limit_are_refused_by_their_head(self) -> None:
        frame = bytearray(self.frame(self.calls[0]))
        for place in range(4, min(len(frame), 20), 4):
            struct.pack_into("<I", frame, place, 0xFFFFFFFE)
        with pytest.raises(FormFailed):
            length_of(self.form, bytes(frame), limit=1 << 20)

    def test_hostile_frames_end_in_our_errors_and_ask_for_no_more_than_the_limit(self) -> None:
        limit = 1 << 16
        for text in self.calls:
            frame = self.frame(text)
            for place in range(len(self.form.magic), min(len(frame), 48)):
                for value in (0, 1, 0x7F, 0xFF):
                    changed = frame[:place] + bytes([value]) + frame[place + 1 :]
                    self._survives(changed, limit)

    def _survives(self, frame: bytes, limit: int) -> None:
        measure, received = self.form.measure(limit), bytearray()
        try:
            while (needed := measure.advance(received)) > len(received):
                assert needed <= limit + 4
                if len(received) == len(frame):
                    return  # it waits for more, which is its right
                received += frame[len(received) : len(received) + 64][: needed - len(received)]
            self.form.read_frame(bytes(received))
        except FormFailed:
            return

    @pytest.mark.parametrize(
        "text", ["(f)", "(f 1)", '(f "x")', "(f '(x))", "(f '(1.5) 32)", '(f \'("0g") 32)', "(f () () () () () ())"]
    )
    def test_arguments_that_make_no_sense_are_refused_in_words(self, text: str) -> None:
        with pytest.raises(FormFailed, match=r"expected|limit"):
            self.form.read_text(arguments_of(text))
