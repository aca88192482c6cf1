"""What a call is like before it runs: its work and its bytes, from the heads of frames and from read text.

Reading takes longer the more there is; who must not wait gives it to a thread. Circuits are not loaded for it: their
files say in the first bytes how many operations they have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from forms.catalogue import CIRCUIT_FORMS, AnyForm, Catalogue
from forms.choice import Shape
from forms.datum import Datum, unquoted
from forms.errors import BadArgument
from forms.evaluate import head_of
from forms.reader import read_datum
from forms.request import Request
from forms.text_framing import decode_text

SMALL_BYTES = 64 << 10
"""Requests that are read at once: it takes a millisecond."""
MOST_READ_BYTES = 8 << 20
"""Text beyond is not read twice: what a byte of text meant lately says enough."""
TEXT_BYTES_PER_BYTE = 2.1
"""Of a reply in text: two digits of hex, and what stands between."""
LANES = 64
LOAD_BATCHES = 20
CIRCUIT_REPLY_BYTES = 256

CountOperations = Callable[[str], int]
"""How many operations the circuit of a name has. Raises NotFound."""


def shape_of(catalogue: Catalogue, request: Request, operations: CountOperations) -> Shape:
    """The shape of a form's call. Raises FormFailed for one that cannot be read."""
    size = len(request.payload)
    if request.is_text and request.head in CIRCUIT_FORMS:
        name, arguments = head_of(read_datum(decode_text(request.payload)))
        work, results = _circuit_work(arguments, operations)
        return Shape(name, True, work, size, CIRCUIT_REPLY_BYTES * results)
    form, call = read_call(catalogue, request)
    bytes_out = form.reply_bytes(call) * (TEXT_BYTES_PER_BYTE if request.is_text else 1)
    return Shape(form.name, request.is_text, form.work(call), size, int(bytes_out))


def read_call(catalogue: Catalogue, request: Request) -> tuple[AnyForm, Any]:
    """A form of the catalogue, and the call that it reads. Raises FormFailed."""
    if not request.is_text:
        form = catalogue.of_magic(request.payload[:4])
        return form, form.read_frame(request.payload)
    name, arguments = head_of(read_datum(decode_text(request.payload)))
    form = catalogue.named(name)
    return form, form.read_text(arguments)


def _circuit_work(arguments: Sequence[Datum], operations: CountOperations) -> tuple[float, int]:
    """Operations times batches, as the circuit forms count it, and how many circuits there are."""
    match arguments:
        case [str() as name, int() as batches, *_]:
            return float(operations(name) * (LOAD_BATCHES + batches)), 1
        case [names, int() as shots, *_] if isinstance(listed := unquoted(names), list):
            found = sum(operations(str(name)) for name in listed)
            return float(found * (LOAD_BATCHES - (-shots // LANES))), len(listed)
        case _:
            raise BadArgument("expected a circuit or a list of circuits, and how many batches or shots")


def operations_in(head: bytes, size: int) -> int:
    """How many operations a circuit's file has, by its first 16 bytes. size: of the file."""
    if head[:8] in (b"QECCOPS1", b"QECCOPSZ"):
        return int.from_bytes(head[8:16], "little")
    return size * 15 // 56  # compressed as a whole, about fifteenfold


def operations_of(path: Path) -> int:
    """How many operations the circuit in `path` has. Raises OSError."""
    with path.open("rb") as file:
        return operations_in(file.read(16), path.stat().st_size)
