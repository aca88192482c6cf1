"""Computes one request to its reply: what a worker does, text or frame. Pure but for the forms' own libraries."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from forms.arguments import check_reply
from forms.backend import Backend, HasHostBytes
from forms.backends import Backends
from forms.catalogue import AnyForm, Catalogue
from forms.computed import Computed
from forms.datum import Datum, Spliced, Symbol
from forms.errors import BadSyntax, DeviceFailed, FormFailed, UnknownOperation
from forms.form import FRAME_LIMIT
from forms.quick_text import HasTextRows, read_rows_call, write_rows_line
from forms.reader import MAX_ATOMS, read_datum
from forms.text_framing import decode_text
from forms.writer import write_datum

ERROR_HEAD = struct.Struct("<4sII")
MAX_MESSAGE = 2000
COPIES = 3
"""Of a request, or of a reply, that are in memory at a time: as it came, as it is computed with, as it goes."""
ATOM_BYTES = 128
"""Of the costliest datum for its letters while it is read: a symbol of two, and the space behind it (measured: 110)."""
SHORTEST_ATOM_BYTES = 3


@dataclass(frozen=True, slots=True)
class _Sides:
    """A form as what it may be beside a form. Kept, since Python takes 10 µs to find out."""

    rows: HasTextRows | None
    larger: HasHostBytes | None


@dataclass(slots=True)
class Evaluator:
    """A worker's forms and what computes them. limit_bytes: of a reply.  clock: in seconds.

    reserve: holds so much of the host's memory for the call, raises Busy.
    """

    catalogue: Catalogue
    backends: Backends = field(default_factory=Backends)
    limit_bytes: int = FRAME_LIMIT
    clock: Callable[[], float] = time.perf_counter
    reserve: Callable[[int], None] = lambda size_bytes: None
    _warm: set[tuple[str, Backend]] = field(default_factory=set)
    _known: dict[str, _Sides] = field(default_factory=dict)

    def text(self, request: bytes) -> Computed:
        """The reply to a form call in text, with its newline. Never raises for what a client sends."""
        begun = self.clock()
        try:
            self.reserve(COPIES * len(request))
            form, call = self._read_text(request)
            return self._computed(begun, form, call, lambda result: self._write_text(form, result))
        except DeviceFailed:
            raise
        except FormFailed as error:
            return Computed(error_line(error))

    def frame(self, frame: bytes) -> Computed:
        """The reply to a whole frame. Never raises for what a client sends."""
        begun = self.clock()
        try:
            self.reserve(COPIES * len(frame))
            form = self.catalogue.of_magic(frame[:4])
            return self._computed(begun, form, form.read_frame(frame), form.write_frame)
        except DeviceFailed:
            raise
        except FormFailed as error:
            return Computed(error_frame(error))

    def _read_text(self, request: bytes) -> tuple[AnyForm, Any]:
        if (quick := read_rows_call(request)) is not None:
            found = self.catalogue.find(quick.name)
            if found is not None and (rows := self._sides(found).rows) is not None:
                return found, rows.read_text_rows(quick.rows, quick.rest)
        self.reserve(ATOM_BYTES * min(len(request) // SHORTEST_ATOM_BYTES, MAX_ATOMS))
        name, arguments = head_of(read_datum(decode_text(request)))
        if name == "bend" and len(arguments) == 1:
            name, arguments = head_of(arguments[0])
        form = self.catalogue.named(name)
        return form, form.read_text(arguments)

    def _write_text(self, form: AnyForm, result: Any) -> bytes:
        if (rows := self._sides(form).rows) is None:
            return ok_line(form.write_text(result), self.limit_bytes)
        line = write_rows_line(*rows.text_rows(result))
        check_reply(len(line), self.limit_bytes)
        return line

    def _computed(self, begun: float, form: AnyForm, call: Any, write: Callable[[Any], bytes]) -> Computed:
        reply_bytes = form.reply_bytes(call)
        check_reply(reply_bytes, self.limit_bytes)
        larger = self._sides(form).larger
        self.reserve(COPIES * reply_bytes + (larger.host_bytes(call) if larger is not None else 0))
        result, backend = self.backends.compute(form, call)
        reply = write(result)
        is_cold = (form.name, backend) not in self._warm
        self._warm.add((form.name, backend))
        return Computed(reply, form.name, backend, form.work(call), self.clock() - begun, is_cold)

    def _sides(self, form: AnyForm) -> _Sides:
        if form.name not in self._known:
            rows, larger = (
                form if isinstance(form, HasTextRows) else None,
                form if isinstance(form, HasHostBytes) else None,
            )
            self._known[form.name] = _Sides(rows, larger)
        return self._known[form.name]


def head_of(datum: Datum) -> tuple[str, list[Datum]]:
    """The name and the arguments of a call. Raises BadSyntax."""
    if not isinstance(datum, list) or not datum or not isinstance(datum[0], Symbol):
        raise BadSyntax("expected a call such as (ping): a list that begins with a name")
    return str.__str__(datum[0]), datum[1:]


def ok_line(result: Datum, limit_bytes: int = FRAME_LIMIT) -> bytes:
    """`(ok X)` and a newline; `(ok A B …)` for what is spliced. Raises BeyondLimit."""
    written = write_datum(result)
    line = b"(ok " + (written[1:-1] if isinstance(result, Spliced) else written).encode() + b")\n"
    check_reply(len(line), limit_bytes)
    return line


def error_line(error: FormFailed) -> bytes:
    """`(error (KIND "message"))`, or `(error (unknown-op NAME))`, and a newline."""
    if isinstance(error, UnknownOperation):
        said: list[Datum] = [Symbol("unknown-op"), Symbol(_as_symbol(error.name))]
    else:
        said = [Symbol(error.kind.word), str(error)[:MAX_MESSAGE]]
    return write_datum([Symbol("error"), said]).encode() + b"\n"


def error_frame(error: FormFailed) -> bytes:
    """`BERR`, u32 code, u32 length, UTF-8."""
    message = str(error)[:MAX_MESSAGE].encode()
    return ERROR_HEAD.pack(b"BERR", error.kind.value, len(message)) + message


def _as_symbol(name: str) -> str:
    """A name as the reader would take it: others could not have been asked for as text."""
    kept = "".join(letter for letter in name[:100] if letter.isprintable() and letter not in "()\"'; ")
    return kept or "?"
