"""Computes one request to its reply: what a worker does, text or frame. Pure but for the forms' own libraries."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from forms.arguments import check_reply
from forms.backend import Backend
from forms.catalogue import AnyForm, Catalogue
from forms.computed import Computed
from forms.datum import Datum, Spliced, Symbol
from forms.errors import BadArgument, BadSyntax, FormFailed, UnknownOperation
from forms.form import FRAME_LIMIT
from forms.reader import read_datum
from forms.text_framing import decode_text
from forms.writer import write_datum

ERROR_HEAD = struct.Struct("<4sII")
MAX_MESSAGE = 2000


def evaluate_text(catalogue: Catalogue, request: bytes, limit_bytes: int = FRAME_LIMIT) -> Computed:
    """The reply to a form call in text, with its newline. Never raises for what a client sends."""
    form: AnyForm | None = None
    try:
        name, arguments = head_of(read_datum(decode_text(request)))
        if name == "bend" and len(arguments) == 1:
            name, arguments = head_of(arguments[0])
        form = catalogue.named(name)
        call = form.read_text(arguments)
        return _computed(form, call, lambda result: ok_line(form.write_text(result), limit_bytes), limit_bytes)
    except FormFailed as error:
        return Computed(error_line(error), form.name if form else "")


def evaluate_frame(catalogue: Catalogue, frame: bytes, limit_bytes: int = FRAME_LIMIT) -> Computed:
    """The reply to a whole frame. Never raises for what a client sends."""
    form: AnyForm | None = None
    try:
        form = catalogue.of_magic(frame[:4])
        return _computed(form, form.read_frame(frame), form.write_frame, limit_bytes)
    except FormFailed as error:
        return Computed(error_frame(error), form.name if form else "")


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


def _computed(form: AnyForm, call: Any, write: Callable[[Any], bytes], limit_bytes: int) -> Computed:
    check_reply(form.reply_bytes(call), limit_bytes)
    return Computed(write(_result(form, call)), form.name, Backend.REFERENCE, form.work(call))


def _result(form: AnyForm, call: Any) -> Any:
    try:
        return form.reference(call)
    except FormFailed:
        raise
    except (ArithmeticError, ValueError, TypeError, LookupError) as error:
        raise FormFailed(f"{form.name} failed: {type(error).__name__}: {error}") from error
    except MemoryError as error:
        raise BadArgument(f"{form.name}: the call does not fit this host's memory") from error


def _as_symbol(name: str) -> str:
    """A name as the reader would take it: others could not have been asked for as text."""
    kept = "".join(letter for letter in name[:100] if letter.isprintable() and letter not in "()\"'; ")
    return kept or "?"
