"""One dispatcher behind every door: what a request is, and who answers it.

The small operations are answered here; forms go to the worker as they came, so that the agent reads neither their
text nor their frames.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from forms.blobs import FormBlobs
from forms.catalogue import CIRCUIT_FORMS, Catalogue
from forms.datum import Datum, Spliced, Symbol
from forms.errors import BadArgument, FormFailed, UnknownOperation
from forms.evaluate import error_frame, error_line, head_of, ok_line
from forms.reader import read_datum
from forms.survey.entries import Entry, entries_of
from forms.text_framing import decode_text
from forms.worker import Worker
from forms.worker_pipe import FRAME, TEXT

CALL_DEADLINE_S = 600.0
HEAD = re.compile(rb"\(\s*(?:bend\s*\(\s*)?([^\s()'\";]{1,100})")


@dataclass(frozen=True, slots=True)
class Health:
    """What `(health)` answers. vram_free_mb: 0 without an NVIDIA GPU.  uptime_ms: wall-clock milliseconds, as the page
    that defined it has it.
    """

    load_avg: float
    vram_free_mb: int
    uptime_ms: int


@dataclass(frozen=True, slots=True)
class Operations:
    """What this node answers. health: now.  blobs: where the worker's folder of them is kept full; None: by hand."""

    catalogue: Catalogue
    worker: Worker
    health: Callable[[], Health]
    blobs: FormBlobs | None = None

    async def answer_text(self, request: bytes) -> bytes:
        """The reply to one datum, with its newline; errors are replies."""
        try:
            found = HEAD.match(request)
            if found is not None and self._is_form(found[1].decode("latin-1")):
                if self.blobs is not None:
                    await self.blobs.bring_for(found[1].decode("latin-1"), request)
                return (await self.worker.compute(TEXT, request, CALL_DEADLINE_S)).reply
            return self._answer_small(request)
        except FormFailed as error:
            return error_line(error)

    async def answer_frame(self, frame: bytes) -> bytes:
        """The reply to a whole frame; errors are replies."""
        try:
            return (await self.worker.compute(FRAME, frame, CALL_DEADLINE_S)).reply
        except FormFailed as error:
            return error_frame(error)

    def _is_form(self, name: str) -> bool:
        return name in CIRCUIT_FORMS or self.catalogue.find(name) is not None

    def _answer_small(self, request: bytes) -> bytes:
        name, arguments = head_of(read_datum(decode_text(request)))
        match name:
            case "ping":
                return ok_line(Symbol("pong"))
            case "echo":
                if len(arguments) != 1:
                    raise BadArgument(f"echo: expected 1 argument, got {len(arguments)}")
                return ok_line(arguments[0])
            case "health":
                return ok_line(_pairs(self.health()))
            case "forms":
                return ok_line([_listed(entry) for entry in entries_of(self.catalogue)])
            case "bend" if arguments:
                raise UnknownOperation(head_of(arguments[0])[0])
            case _:
                raise UnknownOperation(name)


def _pairs(health: Health) -> Datum:
    return Spliced(
        [
            [Symbol("load-avg"), round(float(health.load_avg), 2)],
            [Symbol("vram-free-mb"), health.vram_free_mb],
            [Symbol("uptime-ms"), health.uptime_ms],
        ]
    )


def _listed(entry: Entry) -> Datum:
    return [
        [Symbol("name"), entry.name],
        [Symbol("status"), Symbol(entry.status.value)],
        [Symbol("frame"), Symbol(entry.magic) if entry.magic else []],
    ]
