"""What a draft model beside a session gains: `python -m bench.draft_model [--json]`.

A generated target that recalls by construction, with ballast so that a token takes as long as in a model of its size,
and a small one that recalls the same, so that nearly every draft stands: what is synthetic is how many do, not what
they cost. The same text is gone on with plainly, with n-grams and with the draft model, in turns, 128 tokens each;
answers must be the same.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.row import Row
from llm.sessions.context import Context, ContextSettings, be_quiet
from llm.sessions.draft_model import DraftModel
from llm.sessions.session import Said, Wish
from llm.sessions.sessions import Sessions
from llm.sessions.shelf import Shelf
from tests.llm.sessions.recall_model import FIRST_WORD, WORDS, write_recall_model

SAMPLES = 6
TOKENS = 128
STORY_WORDS = 40
BALLAST = (32, 32 << 10)
NAME = "small"


class _Deaf:
    """Nobody listens."""

    has_room = True

    def tell(self, said: Said) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Answer:
    """seconds: from its first token to its last."""

    said: tuple[int, ...]
    seconds: float
    drafted: int
    accepted: int
    state: str


def answer(sessions: Sessions, seed: int, by: str) -> Answer:
    """Go on with a text of words said twice. by: plain, ngram, or the draft model's name."""
    dice = random.Random(seed)
    story = [FIRST_WORD + word for word in dice.sample(range(300, WORDS), STORY_WORDS)] * 2
    session = sessions.create("bench", None, by if by == NAME else "")
    sessions.append(session, story)
    turn = sessions.begin(session, Wish(most_tokens=TOKENS, drafts=by != "plain"), _Deaf())
    while sessions.has_work:
        sessions.step()
    said, state = tuple(session.tokens[len(story) :]), session.drafting.state.value
    sessions.delete(session)
    return Answer(said, turn.ended_at - turn.first_at, turn.drafted, turn.accepted, state)


def run(ballast: int) -> dict[str, list[Answer]]:
    be_quiet()
    found: dict[str, list[Answer]] = {"plain": [], "ngram": [], NAME: []}
    with tempfile.TemporaryDirectory() as folder:
        target = write_recall_model(Path(folder) / "target.gguf", quantised=True, ballast=ballast)
        small = write_recall_model(Path(folder) / f"{NAME}.gguf", quantised=True)
        settings = ContextSettings(target, cells=1024, sequences=2, threads=1)
        context = Context(settings)
        drafter = DraftModel(Context(ContextSettings(small, cells=1024, sequences=2, threads=1)), NAME, time.monotonic)
        sessions = Sessions(context, Shelf(Path(folder) / "shelf"), time.monotonic, draft_model=drafter)
        for seed in range(SAMPLES):
            for by, answers in found.items():
                answers.append(answer(sessions, seed, by))
        context.close()
        drafter.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.draft_model", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--ballast", type=int, nargs="*", default=BALLAST, help="rows, a target each")
    options = parser.parse_args()
    rows: list[Row] = []
    shown = []
    for ballast in options.ballast:
        found = run(ballast)
        plain = statistics.median(TOKENS / one.seconds for one in found["plain"])
        for by, answers in found.items():
            rate = statistics.median(TOKENS / one.seconds for one in answers)
            same = sum(one.said == other.said for one, other in zip(answers, found["plain"], strict=True))
            rows.append(Row(f"draft-{by}-{ballast}", rate, plain, "plain", rate / plain, "tokens/s", "higher", 0.95))
            drafted, accepted = sum(one.drafted for one in answers), sum(one.accepted for one in answers)
            shown.append(
                f"ballast {ballast:6d}, {by:5}: {same} of {SAMPLES} the same, {accepted} of {drafted} accepted, "
                f"{rate:.0f} tokens/s, {rate / plain:.2f} times as fast; {answers[-1].state}"
            )
    if options.json:
        print(json.dumps({"name": "draft-model", "machine": platform.machine(), "rows": [asdict(row) for row in rows]}))
        return
    print("\n".join(shown))


if __name__ == "__main__":
    main()
