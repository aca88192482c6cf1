"""What a node makes of answers that were recorded on a busy machine, wherever in the series it begins.

`python -m bench.draft_trial --record tests/llm/trial_series.json`, on two cores at load 11 to 16 from other work:
answers without drafts and with them in turns, six processes more that compute all the time from one third on and gone
again at two thirds. Each answer: seconds by the clock, seconds of the engine's CPUs, and its tokens in all, drafted,
accepted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from llm.engines.comparison import Sample
from llm.engines.trial import Trial

Turn = tuple[float, float, tuple[int, int, int]]
SERIES: dict[str, list[tuple[Turn, Turn]]] = json.loads(Path(__file__).with_name("trial_series.json").read_text())
PAYS = {name: not name.startswith("toy") for name in SERIES}
"""As a quiet machine has it, and each of these by a wide margin: a toy's token is so cheap that drafts only cost."""
MOST_TURNS = 3000


def judged(name: str, start: int, measure: Literal["clock", "cpus"]) -> Trial:
    """A trial of that series from `start` on, round and round, that takes of each turn the answer it wants."""
    trial, pairs = Trial(load_s=0.5), SERIES[name]
    wanted = trial.wants_drafts(0.0)
    for turn in range(start, start + MOST_TURNS):
        clock_s, cpu_s, (tokens, drafted, accepted) = pairs[turn % len(pairs)][wanted]
        sample = Sample(tokens, clock_s if measure == "clock" else cpu_s, drafted, accepted)
        trial.note(sample, is_drafting=wanted, now=0.0)
        if trial.state != "tried":
            return trial
        wanted = trial.wants_drafts(0.0)
    raise AssertionError(trial.words())


@pytest.mark.parametrize("name", SERIES)
def test_by_the_work_of_its_cpus_every_verdict_is_right(name: str) -> None:
    for start in range(len(SERIES[name])):
        trial = judged(name, start, "cpus")
        assert (trial.state, trial.is_unclear) == ("on" if PAYS[name] else "off", False), (start, trial.words())


def test_by_the_clock_a_verdict_is_hardly_ever_wrong() -> None:
    """It may find that it cannot tell. Five answers the one way and five the other were wrong in 23 of these 288."""
    trials = [(name, judged(name, start, "clock")) for name in SERIES for start in range(len(SERIES[name]))]
    clear = [(name, trial) for name, trial in trials if not trial.is_unclear]
    wrong = [trial.words() for name, trial in clear if trial.state != ("on" if PAYS[name] else "off")]
    assert len(clear) > len(trials) * 0.75
    assert len(wrong) <= len(trials) * 0.01, wrong


def test_the_recorded_machine_was_a_busy_one() -> None:
    """Of the very same question's answers some took many times as long as others."""
    for name, pairs in SERIES.items():
        took_s = sorted(plain[0] for plain, _ in pairs)
        assert took_s[-1] > 3 * took_s[0], name
