"""One model on its way to this node: how far it is, and what became of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from llm.models.transfer import Meter
from llm.residency import Policy


class Stage(Enum):
    """Where a bringing is. WAITING ones try again by themselves."""

    FINDING = "finding"
    BRINGING = "bringing"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


OVER = (Stage.DONE, Stage.FAILED, Stage.CANCELLED)


@dataclass(slots=True)
class Bringing:
    """wanted: a spec or a name of the mesh.  loads: into memory as soon as it is here.

    is_patient: it tries again when the weather was bad, as nobody stands and waits.  name: "" until it is known.
    sha256s: of its files, once they are known.
    """

    wanted: str
    policy: Policy
    loads: bool
    is_patient: bool
    stage: Stage = Stage.FINDING
    reason: str = ""
    name: str = ""
    sha256s: tuple[str, ...] = ()
    meter: Meter = field(default_factory=Meter)

    @property
    def is_over(self) -> bool:
        return self.stage in OVER

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing more to say: it is here, nobody wants it, or who asked was told why not."""
        return self.is_over and not (self.stage is Stage.FAILED and self.is_patient)

    @property
    def words(self) -> str:
        """How it is going, for people."""
        return self.meter.words if self.stage is Stage.BRINGING else self.reason

    def enter(self, stage: Stage, reason: str = "") -> None:
        self.stage, self.reason = stage, reason

    def as_json(self) -> dict[str, Any]:
        """For `meshd models` and `meshd status`."""
        return {
            "wanted": self.wanted,
            "name": self.name,
            "state": self.stage.value,
            "reason": self.words,
            "done_bytes": self.meter.done_bytes,
            "size_bytes": self.meter.size_bytes,
            "bytes_per_s": round(self.meter.bytes_per_s),
            "source": self.meter.source,
        }
