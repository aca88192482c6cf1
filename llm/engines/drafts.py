"""Who drafts for a llama-server, as its arguments say it, and whether it drafts now."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from llm.engines.interface import Drafting
from llm.engines.timings import TimingsReader
from llm.engines.trial import Trial
from llm.pairing import DraftKind


@dataclass(frozen=True, slots=True)
class Draft:
    """A smaller model that proposes tokens. device: where it computes, "none" for the CPU.  tokens: at a time.

    kind: llama-server's word for how.
    """

    model: Path
    device: str = "none"
    tokens: int = 8
    kind: DraftKind = "draft-simple"


DraftChoice = Draft | Literal["ngram", "own-heads"]
"""ngram: what was said before is proposed again where its beginning comes again.  own-heads: layers of the model itself
that predict further tokens.
"""


def draft_arguments(draft: DraftChoice | None) -> list[str]:
    match draft:
        case None:
            return []
        case "ngram":
            return ["--spec-type", "ngram-simple"]
        case "own-heads":
            return ["--spec-type", "draft-mtp"]
        case Draft():
            # Left alone it would follow the model onto other hosts, a round trip for each proposed token.
            argv = ["--spec-type", draft.kind, "--spec-draft-model", str(draft.model)]
            return [*argv, *("--spec-draft-n-max", str(draft.tokens)), *("--spec-draft-device", draft.device)]


def draft_words(draft: DraftChoice) -> str:
    """Who drafts, for people."""
    match draft:
        case "ngram":
            return "n-grams (ngram-simple)"
        case "own-heads":
            return "the model's own heads (draft-mtp)"
        case Draft():
            return f"{draft.model.name} ({draft.kind})"


@dataclass(slots=True)
class DraftSwitch:
    """Whether an engine drafts, and when it should start again the other way. For its driver.

    is_fixed: it stays as it is: a split, whose workers would have to begin anew.  restarts: how often it was the other
    way since the agent began.
    """

    draft: DraftChoice | None
    is_fixed: bool
    trial: Trial = field(default_factory=Trial)
    is_drafting: bool = field(init=False)
    restarts: int = 0
    _alone: TimingsReader | None = None
    _drafted: int = 0
    _accepted: int = 0

    def __post_init__(self) -> None:
        self.is_drafting = self.draft is not None

    def begin(self, in_flight: int, cpu_s: float | None) -> TimingsReader | None:
        """An answer begins, one of so many: a reader of its timings. Of two at a time neither counts.

        cpu_s: how long the engine's CPUs have worked, None where the clock is what counts.
        """
        if self.draft is None:
            return None
        if self._alone is not None:
            self._alone.is_alone = False
        self._alone = TimingsReader(is_alone=in_flight == 1, cpu_s=cpu_s)
        return self._alone

    def end(self, reader: TimingsReader, now: float, cpu_s: float | None) -> None:
        """Its answer has ended."""
        sample = reader.told(cpu_s)
        if sample is None:
            return
        self._drafted += sample.drafted
        self._accepted += sample.accepted
        if reader.is_alone:
            self.trial.note(sample, is_drafting=self.is_drafting, now=now)

    def died(self) -> None:
        """The engine ended by itself."""
        if self.is_drafting and not self.is_fixed:
            self.trial.died()
            self.is_drafting = self.trial.state != "broken"

    def turn(self, now: float) -> bool:
        """Be the other way where that is wanted; whether it was. Asked while nobody is answered."""
        if self.draft is None or self.is_fixed or self.trial.wants_drafts(now) is self.is_drafting:
            return False
        self.is_drafting = not self.is_drafting
        self.restarts += 1
        return True

    def now(self) -> Drafting | None:
        """How it stands; None where nothing drafts."""
        if self.draft is None:
            return None
        trial = self.trial
        state = "on" if self.is_fixed else "off" if trial.state == "broken" else trial.state
        drafter = draft_words(self.draft)
        return Drafting(drafter, state, self.is_drafting, trial.speedup, self._drafted, self._accepted, self._reason())

    def words(self) -> str:
        """For people; empty where nothing drafts."""
        now = self.now()
        return f"drafts by {now.drafter}: {now.reason}" if now is not None else ""

    def _reason(self) -> str:
        if self.is_fixed:
            return f"on: a split is not started again to compare, {self.trial.stand}"
        if not self.restarts:
            return self.trial.words()
        often = "once" if self.restarts == 1 else f"{self.restarts} times"
        return f"{self.trial.words()}; started again {often} for that"
