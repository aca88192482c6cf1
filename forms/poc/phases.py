"""What a prover's processes do at the moment, and what may follow it. Pure."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """Of all groups of a host together."""

    IDLE = "idle"
    GENERATE = "generate"
    VALIDATE = "validate"
    STOP = "stop"


FOLLOWS: dict[Phase, frozenset[Phase]] = {
    Phase.IDLE: frozenset({Phase.GENERATE, Phase.VALIDATE, Phase.STOP}),
    Phase.GENERATE: frozenset({Phase.IDLE, Phase.VALIDATE, Phase.STOP}),
    Phase.VALIDATE: frozenset({Phase.IDLE, Phase.GENERATE, Phase.STOP}),
    Phase.STOP: frozenset(),
}


def enter(current: Phase, wanted: Phase) -> Phase:
    """`wanted`, where it may follow; the same again changes nothing. ValueError: nothing follows a stop."""
    if wanted is not current and wanted not in FOLLOWS[current]:
        raise ValueError(f"phase {wanted.value} cannot follow {current.value}: start anew")
    return wanted
