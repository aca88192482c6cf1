"""Who is told of calls as they end, for figures and pictures; nothing depends on what it does with that."""

from __future__ import annotations

from typing import Protocol

from forms.choice import Decision
from forms.computed import Computed


class Observer(Protocol):
    """Told at the end of every call. Quick, and raises nothing."""

    def computed(self, form: str, done: Computed | None, seconds: float) -> None:
        """This node computed a call, for whoever asked. done: None where there is no reply.  seconds: with waiting."""

    def decided(self, decision: Decision) -> None:
        """A call that might have run anywhere ran where it did."""


class NoObserver:
    """Nobody looks."""

    def computed(self, form: str, done: Computed | None, seconds: float) -> None:
        """Forget it."""

    def decided(self, decision: Decision) -> None:
        """Forget it."""
