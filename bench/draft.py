"""Whether drafts change answers, and what they gain: `python -m bench.draft [--json]`, on the shipped toy model.

60 prompts × 64 tokens, greedy, Q8_0: each is answered plainly, then with drafts that are always right, n-grams, chance,
and wrong at every third token; with flash attention, without it, and without it behind a margin guard. Identity is
promised with flash attention only; elsewhere the share that differed is the figure.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.row import Row
from llm.sessions.context import Context, ContextSettings, be_quiet
from llm.sessions.drafter import NGRAM, Drafter, Recalling
from llm.sessions.session import Said, Wish
from llm.sessions.sessions import Sessions
from llm.sessions.shelf import Shelf
from tools.scenarios.stage import TOY

TOKENS = 64
MARGIN = 0.05
NAMES = ("meshd", "gossip", "a form", "a node", "the host", "a token", "bend", "a mesh", "the console", "a split")
QUESTIONS = ("What is {}?", "How does {} work?", "Who needs {}?", "Why {}?", "When is {} used?", "Tell me about {}.")
PROMPTS = [question.format(name) for name in NAMES for question in QUESTIONS]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One kind of draft in one setting. same: of 60.  seconds: for all 60, one after the other in turns."""

    setting: str
    draft: str
    same: int
    drafted: int
    accepted: int
    seconds: float
    plain_seconds: float


class _Deaf:
    """Nobody listens."""

    has_room = True

    def tell(self, said: Said) -> None:
        pass


def answer(sessions: Sessions, prompt: str, wish: Wish, drafter: Drafter) -> tuple[list[int], float, int, int]:
    """Its tokens, seconds, drafted, accepted."""
    session = sessions.create("bench", None)
    text = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    sessions.append(session, sessions.context.tokenize(text, is_start=True))
    start = len(session.tokens)
    began = time.perf_counter()
    turn = sessions.begin(session, wish, _Deaf(), drafter)
    while sessions.has_work:
        sessions.step()
    took_s = time.perf_counter() - began
    said = session.tokens[start:]
    sessions.delete(session)
    return said, took_s, turn.drafted, turn.accepted


def known(plain: Sequence[int], start: int, *, is_wrong: bool) -> Drafter:
    """A drafter that has read the answer. is_wrong: at every third token."""

    def draft(tokens: Sequence[int], count: int) -> list[int]:
        right = list(plain[len(tokens) - start :][:count])
        errs = [(len(tokens) + place) % 3 // 2 if is_wrong else 0 for place in range(len(right))]
        return [max(0, token - error) for token, error in zip(right, errs, strict=True)]

    return Recalling(draft, "known")


def outcomes(setting: str, settings: ContextSettings, margin: float) -> list[Outcome]:
    """All kinds of drafts in one setting, each prompt plain and drafted in turns."""
    with tempfile.TemporaryDirectory() as folder:
        context = Context(settings)
        sessions = Sessions(context, Shelf(Path(folder)), time.monotonic)
        found = []
        dice = random.Random(1)
        for kind in ("perfect", "ngram", "random", "adversarial"):
            same = drafted = accepted = 0
            sessions.proposals.chances.clear()  # what the kinds before were worth says nothing of this one
            seconds = plain_seconds = 0.0
            for prompt in PROMPTS:
                plain, plain_s, _, _ = answer(sessions, prompt, Wish(most_tokens=TOKENS), NGRAM)
                start = _start(sessions, prompt)
                drafts: dict[str, Drafter] = {
                    "perfect": known(plain, start, is_wrong=False),
                    "ngram": NGRAM,
                    "random": Recalling(lambda tokens, count: [dice.randrange(1000) for _ in range(count)], "random"),
                    "adversarial": known(plain, start, is_wrong=True),
                }
                wish = Wish(most_tokens=TOKENS, drafts=True, least_margin=margin)
                said, took_s, some_drafted, some_accepted = answer(sessions, prompt, wish, drafts[kind])
                same += said == plain
                drafted, accepted = drafted + some_drafted, accepted + some_accepted
                seconds, plain_seconds = seconds + took_s, plain_seconds + plain_s
            found.append(Outcome(setting, kind, same, drafted, accepted, seconds, plain_seconds))
        context.close()
    return found


def _start(sessions: Sessions, prompt: str) -> int:
    text = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    return len(sessions.context.tokenize(text, is_start=True))


def run() -> list[Outcome]:
    be_quiet()
    quantised = ContextSettings(TOY, cells=1024, sequences=2, threads=1)
    off = ContextSettings(TOY, cells=1024, sequences=2, threads=1, flash_attention=False)
    return [
        *outcomes("flash attention", quantised, 0.0),
        *outcomes("no flash attention", off, 0.0),
        *outcomes(f"no flash attention, margin {MARGIN}", off, MARGIN),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.draft", description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = run()
    rows = [
        Row(
            f"draft-{one.setting}-{one.draft}",
            TOKENS * len(PROMPTS) / one.seconds,
            TOKENS * len(PROMPTS) / one.plain_seconds,
            "plain",
            one.plain_seconds / one.seconds,
            "tokens/s",
            "higher",
            0.95,
        )
        for one in found
    ]
    if options.json:
        shown = {"name": "draft", "machine": platform.machine(), "outcomes": [asdict(one) for one in found]}
        print(json.dumps(shown | {"rows": [asdict(row) for row in rows]}))
        return
    for one in found:
        print(
            f"{one.setting:35} {one.draft:12} {one.same} of {len(PROMPTS)} the same, {one.accepted} of {one.drafted} "
            f"accepted, {one.plain_seconds / one.seconds:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
