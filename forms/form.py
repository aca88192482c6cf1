"""What a form is: a named batch computation with its wire shapes, its cost, and the answer that defines it.

A form knows nothing of sockets, processes or nodes. Its codecs are pure; `reference` is the truth that every other
backend is held to. The doors, the worker and the choice of a node treat all forms alike.
"""

from __future__ import annotations

from typing import Protocol, TypeVar, runtime_checkable

from forms.datum import Datum
from forms.errors import FormFailed

Call = TypeVar("Call")
Result = TypeVar("Result")

FRAME_LIMIT = 1 << 30
"""Bytes of a request or a reply, unless a node says otherwise."""


class Measure(Protocol):
    """Finds the end of one frame while it arrives."""

    def advance(self, received: bytearray) -> int:
        """How many bytes the frame has at least, seen from those received so far; its length once it is no more.

        Called again with the same buffer grown. Raises BeyondLimit, BadArgument as soon as the frame is condemned.
        """


@runtime_checkable
class SeesFaults(Protocol):
    """A measure that goes on after it has seen that the call will be refused."""

    @property
    def fault(self) -> FormFailed | None:
        """Why it will be; None as long as nothing is wrong."""


class Form(Protocol[Call, Result]):
    """One form. magic, reply_magic: first four bytes of its frames, empty where it has none."""

    @property
    def name(self) -> str: ...

    @property
    def magic(self) -> bytes: ...

    @property
    def reply_magic(self) -> bytes: ...

    def read_text(self, arguments: list[Datum]) -> Call:
        """The call that stands behind the form's name. Raises BadArgument, BeyondLimit."""

    def write_text(self, result: Result) -> Datum:
        """What follows `ok`."""

    def measure(self, limit_bytes: int) -> Measure:
        """A fresh measure for a frame that is coming."""

    def read_frame(self, frame: bytes) -> Call:
        """The call in a whole frame, magic included. Raises BadArgument, BeyondLimit."""

    def write_frame(self, result: Result) -> bytes:
        """The reply, magic included."""

    def reply_bytes(self, call: Call) -> int:
        """Length of the reply's frame, known before anything is computed."""

    def work(self, call: Call) -> float:
        """How much there is to do, from shapes alone, in the form's own unit; grows with them."""

    def reference(self, call: Call) -> Result:
        """The answer, computed on the CPU by what defines it."""
