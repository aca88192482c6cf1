"""What a worker says of a call that it has done: the reply, and what a cost is learnt from."""

from __future__ import annotations

from dataclasses import dataclass

from forms.backend import Backend


@dataclass(frozen=True, slots=True)
class Computed:
    """One reply. An error is one too, and nothing is learnt from it: it has no backend.

    form: its name, "" where none was found.  work: in the form's own unit.  seconds: in the worker, from the request
    to the reply.  is_cold: the first call of this form and backend since the worker began.
    """

    reply: bytes
    form: str = ""
    backend: Backend | None = None
    work: float = 0.0
    seconds: float = 0.0
    is_cold: bool = False

    @property
    def is_error(self) -> bool:
        return self.backend is None
