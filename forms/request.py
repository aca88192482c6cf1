"""One call on its way to whoever computes it: as it came, text or frame, unread."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

import msgspec

from forms.worker_pipe import FRAME, TEXT

BEND = b"BEND"
"""Before a frame: run it wherever it finishes first, as `(bend CALL)` asks in text."""
FormName = Annotated[str, msgspec.Meta(max_length=128)]
HEAD = re.compile(rb"\s*\(\s*([^\s()'\";]{1,100})")


@dataclass(frozen=True, slots=True)
class Request:
    """payload: a datum, or a whole frame."""

    is_text: bool
    payload: bytes

    @property
    def kind(self) -> int:
        """As the worker's pipe has it."""
        return TEXT if self.is_text else FRAME

    @property
    def head(self) -> str:
        """The name that a text begins with; the magic of a frame. Empty where there is none."""
        if not self.is_text:
            return self.payload[:4].decode("latin-1")
        found = HEAD.match(self.payload)
        return found[1].decode("latin-1") if found else ""


def replied(reply: bytes) -> bool:
    """Whether a reply is no error."""
    return not reply.startswith((b"BERR", b"(error "))
