"""What sessions of each tier remember, and what they take: `python -m bench.recall [--json]`.

48 needles lie in texts of 200, 1,000 and 4,000 words, and each is asked for: of a session that attends to everything,
of the same one parked before each question, of a window, and of a window with passages found for the question; and
once more in other words, which the model takes for the same and the search does not. The model recalls by construction
(tests/llm/sessions/recall_model.py): what is lost, the tier lost. Then 10,000 words are streamed from a bounded
session, for what grows meanwhile.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from bench.row import Row
from llm.sessions.context import Context, ContextSettings, be_quiet
from llm.sessions.session import Said, Session, Wish
from llm.sessions.sessions import Sessions
from llm.sessions.shelf import Shelf
from llm.sessions.window import Bounds
from tests.llm.sessions.recall_model import FIRST_WORD, WORDS, write_recall_model

LENGTHS = (200, 1000, 4000)
NEEDLES = 48
KEYS, VALUES, FILLERS = range(100), range(100, 300), range(300, 768)
WINDOW = 64
STREAMED, EVERY = 10_000, 2_000


class _Deaf:
    has_room = True

    def tell(self, said: Said) -> None:
        """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """expected: the share that lies in the window, where only that can be known; else 1.

    live_bytes: after the last question.  is_paraphrased: asked for in other words than the text's.
    """

    words: int
    tier: str
    right: float
    expected: float
    live_bytes: int
    seconds: float
    is_paraphrased: bool = False


@dataclass(frozen=True, slots=True)
class Growth:
    """While words are streamed: how many were, the session's live bytes, and this process's resident ones."""

    words: int
    live_bytes: int
    process_bytes: int


def story(length: int) -> tuple[list[int], dict[int, int]]:
    """The text as tokens, and the word that follows each key."""
    dice = random.Random(length)
    words = [dice.choice(FILLERS) for _ in range(length)]
    pairs = dict(zip(dice.sample(KEYS, NEEDLES), dice.sample(VALUES, NEEDLES), strict=True))
    for place, (key, value) in zip(dice.sample(range(length // 2), NEEDLES), pairs.items(), strict=True):
        words[2 * place : 2 * place + 2] = [key, value]
    return [FIRST_WORD + word for word in words], {FIRST_WORD + key: FIRST_WORD + pairs[key] for key in pairs}


def ask(sessions: Sessions, session: Session, tokens: Sequence[int]) -> int:
    sessions.replace(session, tokens)
    sessions.begin(session, Wish(most_tokens=1), _Deaf())
    while sessions.has_work:
        sessions.step()
    return session.tokens[-1]


def remembered(sessions: Sessions, tier: str, length: int, *, is_paraphrased: bool = False) -> Remembered:
    """One tier's answers to all questions about one text."""
    text, pairs = story(length)
    spans = {"window": 0, "retrieved": 4}.get(tier)
    session = sessions.create("bench", None if spans is None else Bounds(4, WINDOW, spans))
    other = sessions.create("bench", None)
    right, began = 0, time.perf_counter()
    for key, value in pairs.items():
        asked = key + WORDS if is_paraphrased else key
        right += ask(sessions, session, [*text, asked]) == value
        live_bytes = sessions.describe(session)["live_bytes"]
        if tier == "resumed":
            ask(sessions, other, [key, value])  # there is one sequence: this parks the session
    seconds = time.perf_counter() - began
    share = in_window(text, pairs) if tier == "window" or (tier == "retrieved" and is_paraphrased) else 1.0
    for one in (session, other):
        sessions.delete(one)
    return Remembered(length, tier, right / NEEDLES, share, live_bytes, seconds, is_paraphrased)


def in_window(text: Sequence[int], pairs: dict[int, int]) -> float:
    """The share of the needles that a window has. Of its tokens one is the question."""
    seen = {*text[:3], *text[-(WINDOW - 1) : -1]} if len(text) > WINDOW else set(text)
    return sum(key in seen for key in pairs) / NEEDLES


def growth(sessions: Sessions) -> list[Growth]:
    """Stream from one bounded session."""
    session = sessions.create("bench", Bounds(4, WINDOW, 0))
    sessions.append(session, story(1000)[0])
    seen = []
    for count in range(EVERY, STREAMED + 1, EVERY):
        sessions.begin(session, Wish(most_tokens=EVERY), _Deaf())
        while sessions.has_work:
            sessions.step()
        seen.append(Growth(count, sessions.describe(session)["live_bytes"], psutil.Process().memory_info().rss))
    return seen


def run() -> tuple[list[Remembered], list[Growth]]:
    be_quiet()
    with tempfile.TemporaryDirectory() as folder:
        model = write_recall_model(Path(folder) / "recall.gguf", quantised=True)
        context = Context(ContextSettings(model, cells=4352, sequences=1, threads=1))
        sessions = Sessions(context, Shelf(Path(folder) / "shelf"), time.monotonic)
        tiers = ("full", "resumed", "window", "retrieved")
        found = []
        for length in LENGTHS:
            asked = [*((tier, False) for tier in tiers), ("full", True), ("retrieved", True)]
            for tier, is_paraphrased in asked:
                found.append(remembered(sessions, tier, length, is_paraphrased=is_paraphrased))
                print(found[-1], file=sys.stderr, flush=True)
        grown = growth(sessions)
        context.close()
    return found, grown


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.recall", description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found, grown = run()
    rows = [
        Row(
            f"recall-{one.tier}{'-paraphrased' if one.is_paraphrased else ''}-{one.words}",
            one.right,
            one.expected,
            "what the tier can know",
            one.right / max(one.expected, 1e-9),
            "share",
            "higher",
            1,
        )
        for one in found
    ]
    if options.json:
        shown = {"name": "recall", "machine": platform.machine(), "grown": [asdict(one) for one in grown]}
        print(json.dumps(shown | {"rows": [asdict(row) for row in rows]}))
        return
    for one in found:
        words = " in other words" if one.is_paraphrased else ""
        print(
            f"{one.words:5d} words, {one.tier:9}{words}: {one.right:.3f} right (it can know {one.expected:.3f}), "
            f"{one.live_bytes / 1e3:.1f} kB live, {one.seconds:.1f} s"
        )
    for step in grown:
        print(f"{step.words} words streamed: {step.live_bytes} B live, process {step.process_bytes / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
