"""Who can be asked, as far as this node knows: what a probe or a call said holds for a while. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Target = TypeVar("Target", bound=Hashable)

OK_S = 5.0
DOWN_S = 30.0


@dataclass(frozen=True, slots=True)
class _Said:
    is_ok: bool
    until: float


class HealthBook(Generic[Target]):
    """What is known of each target, and whose turn it is when none is known to be well."""

    def __init__(self) -> None:
        self._said: dict[Target, _Said] = {}
        self._turn = 0

    def note_ok(self, target: Target, now: float) -> None:
        """`target` has answered."""
        self._said[target] = _Said(True, now + OK_S)

    def note_down(self, target: Target, now: float) -> None:
        """A probe or a call of `target` has failed."""
        self._said[target] = _Said(False, now + DOWN_S)

    def is_due(self, target: Target, now: float) -> bool:
        """Whether what is known of it is too old: ask."""
        said = self._said.get(target)
        return said is None or now >= said.until

    def is_down(self, target: Target, now: float) -> bool:
        """Whether it failed lately."""
        said = self._said.get(target)
        return said is not None and not said.is_ok and now < said.until

    def usable(self, targets: Sequence[Target], now: float) -> list[Target]:
        """Those that did not fail lately; where all did, all of them, another one first each time."""
        well = [target for target in targets if not self.is_down(target, now)]
        if well or not targets:
            return well
        self._turn = (self._turn + 1) % len(targets)
        return [*targets[self._turn :], *targets[: self._turn]]
