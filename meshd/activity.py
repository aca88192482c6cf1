"""What this node did lately, for the console: requests and form calls, the newest last, a bounded number of them."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from llm.changes import Changes

KEPT = 100


@dataclass(slots=True)
class Deed:
    """One request or call. what: the model or the form.  where: the node that answers; empty until one does.

    outcome: "running", an HTTP status, or a word.  predicted_s: of a form, before it ran.
    """

    number: int
    kind: Literal["request", "form"]
    what: str
    began_unix_s: float
    where: str = ""
    mode: str = ""
    outcome: str = "running"
    first_s: float | None = None
    seconds: float | None = None
    tokens: int = 0
    predicted_s: float | None = None
    request_id: str = ""


@dataclass(slots=True)
class Activity:
    """The last deeds. Whoever shows them waits for `changes`."""

    changes: Changes = field(default_factory=Changes)
    _deeds: deque[Deed] = field(default_factory=lambda: deque(maxlen=KEPT))
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def begin(self, kind: Literal["request", "form"], what: str, unix_s: float, request_id: str = "") -> Deed:
        """Note that something begins; tell `note` of what comes of it."""
        deed = Deed(next(self._numbers), kind, what[:200], unix_s, request_id=request_id)
        self._deeds.append(deed)
        self.changes.notify()
        return deed

    def note(self) -> None:
        """A deed has changed."""
        self.changes.notify()

    def as_json(self) -> list[dict[str, Any]]:
        """Newest first."""
        return [asdict(deed) for deed in reversed(self._deeds)]
