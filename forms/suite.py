"""What every form keeps, whoever wrote it: subclass `FormSuite` in a test module and run pytest on it.

It is meant for forms of other distributions as well as for ours, and is the only module here that imports pytest.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from forms.arguments import read_byte_strings
from forms.backend import HasFast, HasHostBytes, HasKernel, HasSample
from forms.backends import SAMPLE_ROWS
from forms.blob_folder import BlobFolder
from forms.blob_names import NamesBlobs, blobs_of
from forms.cuda.host_build import NoCompiler, find_compiler
from forms.cuda.host_device import HostDevice
from forms.datum import Datum, Symbol
from forms.errors import FormFailed
from forms.evaluate import ok_line
from forms.form import FRAME_LIMIT, Form, SeesFaults
from forms.quick_text import HasTextRows, write_rows_line
from forms.reader import read_datum
from forms.rows import Rows
from forms.writer import write_datum

NONSENSE = ("(f)", "(f 1)", '(f "x")', "(f '(x))", "(f '(1.5) 32)", '(f \'("0g") 32)', "(f () () () () () ())")


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
        if isinstance(measure, SeesFaults) and measure.fault is not None:
            raise measure.fault
        if len(received) >= needed:
            assert len(received) == needed
            return needed
        assert len(received) < len(frame), f"asked for {needed} bytes of a frame of {len(frame)}"
        received += frame[len(received) : min(needed, len(received) + pieces)]


class FormSuite:
    """A subclass brings these, and `frame` where the form has a magic.

    calls: text calls, one for each edge worth looking at: no rows, one, sizes around the form's own steps.
    larger: calls that are each more work than the one before.  nonsense: calls that no form takes; say others where
    yours takes one of them.  stored: blobs that the calls name by their SHA-256.
    """

    form: Form[Any, Any]
    calls: Sequence[str]
    larger: Sequence[str]
    nonsense: Sequence[str] = NONSENSE
    stored: Sequence[bytes] = ()

    def frame(self, text: str) -> bytes:
        """The frame that asks what `text` asks, written as a client would."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _only_what_the_form_has(self, request: pytest.FixtureRequest) -> None:
        if "frame" in request.node.name and not self.form.magic:
            pytest.skip(f"{self.form.name} is called in text only")

    @pytest.fixture(autouse=True)
    def _with_blobs(self, tmp_path: Path) -> None:
        if isinstance(self.form, NamesBlobs):
            for blob in self.stored:
                (tmp_path / hashlib.sha256(blob).hexdigest()).write_bytes(blob)
            self.form.use_blobs(BlobFolder(tmp_path).blob)

    def test_it_names_its_blobs_and_no_others(self) -> None:
        if not isinstance(self.form, NamesBlobs):
            pytest.skip(f"{self.form.name} names no blobs")
        named = {one for text in self.calls for one in blobs_of(self.form, self.form.read_text(arguments_of(text)))}
        assert {digest.hex() for digest in named} == {hashlib.sha256(blob).hexdigest() for blob in self.stored}

    def test_its_faster_way_says_the_same(self) -> None:
        if not isinstance(self.form, HasFast):
            pytest.skip(f"{self.form.name} has only its reference")
        for text in self.calls:
            call = self.form.read_text(arguments_of(text))
            assert self._written(self.form.fast(call)) == self._written(self.form.reference(call)), text

    def test_its_sample_is_a_call_that_its_faster_way_answers_alike(self) -> None:
        if not isinstance(self.form, HasSample):
            pytest.skip(f"{self.form.name} makes up no sample")
        call = self.form.sample(SAMPLE_ROWS)
        truth = self._written(self.form.reference(call))
        if isinstance(self.form, HasFast):
            assert self._written(self.form.fast(call)) == truth
        assert self.form.work(call) > 0

    def test_the_memory_that_it_takes_is_a_number_of_bytes(self) -> None:
        if not isinstance(self.form, HasHostBytes):
            pytest.skip(f"{self.form.name} takes no memory beyond its request and its reply")
        taken = [self.form.host_bytes(self.form.read_text(arguments_of(text))) for text in self.calls]
        assert all(type(one) is int and one >= 0 for one in taken), taken

    def test_its_kernel_says_the_same_on_this_host(self) -> None:
        if not isinstance(self.form, HasKernel):
            pytest.skip(f"{self.form.name} has no kernel")
        try:
            find_compiler()
        except NoCompiler as error:
            pytest.skip(str(error))
        for text in self.calls:
            call = self.form.read_text(arguments_of(text))
            answer = self.form.kernel.run(HostDevice(), call)
            assert self._written(answer) == self._written(self.form.reference(call)), text

    def test_its_short_way_of_text_says_the_same(self) -> None:
        if not isinstance(self.form, HasTextRows):
            pytest.skip(f"{self.form.name} leaves text to the reader and the writer")
        for text in self.calls:
            listed, *rest = arguments_of(text)
            by_rows = self.form.read_text_rows(Rows.of(read_byte_strings(listed)), rest)
            result = self.form.reference(self.form.read_text([listed, *rest]))
            assert self._written(self.form.reference(by_rows)) == self._written(result), text
            assert write_rows_line(*self.form.text_rows(result)) == ok_line(self.form.write_text(result)), text

    def _written(self, result: Any) -> bytes | str:
        return self.form.write_frame(result) if self.form.magic else write_datum(self.form.write_text(result))

    def test_text_and_frames_ask_for_the_same(self) -> None:
        for text in self.calls:
            by_text = self.form.reference(self.form.read_text(arguments_of(text)))
            by_frame = self.form.reference(self.form.read_frame(self.frame(text)))
            assert self._written(by_text) == self._written(by_frame), text

    def test_a_frame_is_measured_while_it_comes(self) -> None:
        for text in self.calls:
            frame = self.frame(text)
            assert length_of(self.form, frame) == len(frame)
            assert length_of(self.form, frame + b"B" * 100) == len(frame)

    def test_the_reply_frame_is_as_long_as_was_said_before(self) -> None:
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

    def test_arguments_that_make_no_sense_are_refused_in_words(self) -> None:
        for text in self.nonsense:
            with pytest.raises(FormFailed, match=r"expected|limit"):
                self.form.read_text(arguments_of(text))
