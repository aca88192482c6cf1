"""Forms of other distributions: found by their entry points in `meshd.forms`, checked, and fenced.

One that cannot be used is named with the reason and left out; what it raises later is an error of its call. Nothing of
it ends the agent.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from forms.backend import HasFast, HasHostBytes, HasKernel, HasSample
from forms.blob_folder import BlobFolder
from forms.blob_frame import MAGICS as BLOB_MAGICS
from forms.blob_names import NamesBlobs
from forms.catalogue import CIRCUIT_FORMS, AnyForm, Catalogue, shipped
from forms.datum import Datum
from forms.errors import FormFailed
from forms.form import Measure, SeesFaults
from forms.frame import MAGIC_BYTES
from forms.quick_text import HasTextRows
from forms.request import BEND

logger = logging.getLogger("meshd.forms")

GROUP = "meshd.forms"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9+._-]{0,99}")
MAGIC = re.compile(rb"B[0-9A-Z]{3}")
OPERATIONS = ("ping", "echo", "health", "forms", "bend", "auth", "quote")
RESERVED_MAGICS = (b"BERR", BEND, *BLOB_MAGICS)
NEEDED = ("read_text", "write_text", "reply_bytes", "work", "reference")
NEEDED_FOR_FRAMES = ("measure", "read_frame", "write_frame")

T = TypeVar("T")


class Unusable(Exception):
    """A form that is left out; the message says why."""


@dataclass(frozen=True, slots=True)
class Installed:
    """forms: those that can be used.  problems: of the others, by entry point."""

    forms: tuple[AnyForm, ...]
    problems: tuple[str, ...]


def catalogue(blobs: Path | None = None, more: Iterable[AnyForm] = ()) -> Catalogue:
    """Every form of this node: those that ship, `more`, and what is installed beside meshd. Logs what is left out.

    blobs: the folder in which forms find what their calls name; None where none is called.
    """
    ours = shipped(more)
    found = find_installed(entry_points(group=GROUP), ours)
    for form in found.forms:
        if isinstance(form, NamesBlobs):
            form.use_blobs(BlobFolder(blobs).blob)
    for problem in found.problems:
        logger.warning("%s", problem)
    return Catalogue([*ours, *found.forms])


def find_installed(points: Iterable[EntryPoint], ours: Iterable[AnyForm]) -> Installed:
    """The forms behind entry points. Of two with one name or magic the first stays, and ours before any."""
    forms: list[AnyForm] = []
    problems = []
    taken = list(ours)
    for point in sorted(points, key=lambda point: (point.name, point.value)):
        try:
            form = _usable(point, [*taken, *forms])
        except Unusable as problem:
            problems.append(f"the form {point.name!r} ({point.value}) is left out: {problem}")
        else:
            forms.append(form)
    return Installed(tuple(forms), tuple(problems))


def _usable(point: EntryPoint, taken: Sequence[AnyForm]) -> AnyForm:
    """The form that the entry point names, or whose class it names. Raises Unusable."""
    try:
        found = point.load()
        return _checked(found() if isinstance(found, type) else found, taken)
    except Unusable:
        raise
    except (Exception, SystemExit) as error:
        # Code of others: whatever is wrong with it, the agent goes on.
        raise Unusable(f"it cannot be loaded: {type(error).__name__}: {error}") from error


def _checked(form: Any, taken: Sequence[AnyForm]) -> AnyForm:
    """Raises Unusable."""
    name, magic, reply_magic = (getattr(form, one, None) for one in ("name", "magic", "reply_magic"))
    if not isinstance(name, str) or not NAME.fullmatch(name) or name in OPERATIONS:
        raise Unusable(f"expected a name of letters, digits and dashes that is no operation's, got {name!r}")
    if not isinstance(magic, bytes) or not isinstance(reply_magic, bytes):
        raise Unusable(f"expected magic and reply_magic as bytes, got {magic!r} and {reply_magic!r}")
    if (magic and not (MAGIC.fullmatch(magic) and MAGIC.fullmatch(reply_magic))) or magic in RESERVED_MAGICS:
        raise Unusable(f"expected magics of four capitals or digits that begin with B, got {magic!r}, {reply_magic!r}")
    for method in (*NEEDED, *(NEEDED_FOR_FRAMES if magic else ())):
        if not callable(getattr(form, method, None)):
            raise Unusable(f"it has no method {method}")
    for other in taken:
        if name == other.name or name in CIRCUIT_FORMS:
            raise Unusable(f"there is a form {name!r} already")
        if magic and magic == other.magic:
            raise Unusable(f"{other.name} has the magic {magic.decode()} already")
    return Fenced(form)


class Fenced:
    """A form of others, whose mistakes end its call and nothing else. Has what it has beyond what every form must."""

    def __init__(self, form: AnyForm) -> None:
        self.name: str = form.name
        self.magic: bytes = form.magic
        self.reply_magic: bytes = form.reply_magic
        self._form = form
        if isinstance(form, HasFast):
            self.fast = partial(self._call, form.fast)
        if isinstance(form, HasKernel):
            self.kernel = form.kernel
        if isinstance(form, HasSample):
            self.sample = partial(self._call, form.sample)
        if isinstance(form, HasHostBytes):
            self.host_bytes = partial(self._call, form.host_bytes)
        if isinstance(form, HasTextRows):
            self.read_text_rows = partial(self._call, form.read_text_rows)
            self.text_rows = partial(self._call, form.text_rows)
        if isinstance(form, NamesBlobs):
            self.blobs = partial(self._call, form.blobs)
            self.use_blobs = form.use_blobs

    def read_text(self, arguments: list[Datum]) -> Any:
        """Raises FormFailed."""
        return self._call(self._form.read_text, arguments)

    def write_text(self, result: Any) -> Datum:
        """Raises FormFailed."""
        return self._call(self._form.write_text, result)

    def measure(self, limit_bytes: int) -> Measure:
        """Raises FormFailed."""
        return FencedMeasure(self._call, self._call(self._form.measure, limit_bytes))

    def read_frame(self, frame: bytes) -> Any:
        """Raises FormFailed."""
        return self._call(self._form.read_frame, frame)

    def write_frame(self, result: Any) -> bytes:
        """Raises FormFailed."""
        return self._call(self._form.write_frame, result)

    def reply_bytes(self, call: Any) -> int:
        """Raises FormFailed."""
        return self._call(self._form.reply_bytes, call)

    def work(self, call: Any) -> float:
        """Raises FormFailed."""
        return float(self._call(self._form.work, call))

    def reference(self, call: Any) -> Any:
        """Raises FormFailed."""
        return self._call(self._form.reference, call)

    def _call(self, work: Callable[..., T], *arguments: Any) -> T:
        try:
            return work(*arguments)
        except (FormFailed, MemoryError):
            raise
        except Exception as error:
            # Code of others: what it raises costs this call, and not the worker.
            raise FormFailed(f"{self.name} failed: {type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class FencedMeasure:
    """call: what fences.  measure: of a form of others."""

    call: Callable[..., Any]
    measure: Measure

    @property
    def fault(self) -> FormFailed | None:
        """Why the call will be refused, where the measure says so."""
        return self.measure.fault if isinstance(self.measure, SeesFaults) else None

    def advance(self, received: bytearray) -> int:
        """Raises FormFailed, also for a length that is none."""
        needed = self.call(self.measure.advance, received)
        if type(needed) is not int or needed < MAGIC_BYTES:
            raise FormFailed(f"a frame's length cannot be {needed!r}")
        return needed
