"""Whether drafts change answers, and what they gain: `python -m bench.draft [--json] [--png FILE]`.

60 prompts × 64 tokens, greedy, Q8_0, on the shipped toy: each is answered plainly, then with drafts that are always
right, n-grams, chance, and wrong at every third token; with flash attention, without it, and without it behind a margin
guard; then with the toy's own draft model on another host. Identity is promised with flash attention only; elsewhere
the share that differed is the figure. Then a drafter at seven distances (`draft_mesh`): what the formula says, what
forced drafts give, and what the controller makes of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.draft_mesh import MODES, Distance, measure, staged, write_models
from bench.draft_plot import draw
from bench.row import Row
from llm.sessions.context import Context, ContextSettings, be_quiet
from llm.sessions.drafter import NGRAM, Drafter, Recalling
from llm.sessions.session import Said, Wish
from llm.sessions.sessions import Sessions
from llm.sessions.shelf import Shelf
from tools.scenarios.stage import TOY

TOKENS = 64
MARGIN = 0.05
FAR_TOKENS = 5
DELAYS_MS = (0, 5, 15, 30, 60, 100, 150)
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
    sessions.append(session, sessions.context.tokenize(_chat(prompt), is_start=True))
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
    return len(sessions.context.tokenize(_chat(prompt), is_start=True))


def _chat(prompt: str) -> str:
    return f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"


def run() -> list[Outcome]:
    be_quiet()
    quantised = ContextSettings(TOY, cells=1024, sequences=2, threads=1)
    off = ContextSettings(TOY, cells=1024, sequences=2, threads=1, flash_attention=False)
    return [
        *outcomes("flash attention", quantised, 0.0),
        *outcomes("no flash attention", off, 0.0),
        *outcomes(f"no flash attention, margin {MARGIN}", off, MARGIN),
    ]


async def from_afar(folder: Path) -> Outcome:
    """The toy's draft model on another agent, five tokens at a time whether that pays or not."""
    same = drafted = accepted = 0
    seconds = plain_seconds = 0.0
    async with staged(folder, TOY, TOY.with_name("meshd-toy-draft.gguf"), TOKENS) as stage:
        for prompt in PROMPTS:
            text = _chat(prompt)
            plain = await stage.answer(text, **MODES["plain"])
            said = await stage.answer(text, draft="far", draft_tokens=FAR_TOKENS)
            same += said.text == plain.text
            drafted, accepted = drafted + said.drafted, accepted + said.accepted
            seconds, plain_seconds = seconds + said.seconds, plain_seconds + plain.seconds
    return Outcome("flash attention", "another host", same, drafted, accepted, seconds, plain_seconds)


async def at_distances(folder: Path, delays_ms: Sequence[float], rounds: int) -> list[Distance]:
    """One after the other, nearest first: the first one's way is taken for what the program itself adds."""
    found: list[Distance] = []
    async with staged(folder / "agents", *write_models(folder)) as stage:
        for delay_ms in delays_ms:
            found.append(await measure(stage, delay_ms, rounds, found[0] if found else None))
            print(words_of(found[-1]), file=sys.stderr, flush=True)
    return found


def words_of(one: Distance) -> str:
    costs = one.costs
    assert costs is not None
    return (
        f"{one.delay_ms:4.0f} ms: a token {1000 * costs.plain_s:.1f} ms, a block {1000 * costs.verify_s:.1f} + "
        f"{1000 * costs.draft_s:.1f} + {one.round_trip_ms:.1f} ms; forced {one.speedups['forced']:.2f} times as fast, "
        f"predicted {one.predicted:.2f}; automatic {one.speedups['automatic']:.2f} ({one.state}); "
        f"{one.same} of {one.asked} the same; it pays up to {one.break_even_ms:.0f} ms"
    )


def identity_rows(found: Sequence[Outcome]) -> list[Row]:
    return [
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


def distance_rows(found: Sequence[Distance]) -> list[Row]:
    """Of each distance what the controller makes of it beside plain decoding, and forced drafts beside the formula."""
    rows = []
    for one in found:
        ours, plain = 1 / one.seconds["automatic"], 1 / one.seconds["plain"]
        rows.append(Row(f"draft-rtt-{one.delay_ms:g}", ours, plain, "plain", ours / plain, "tokens/s", "higher", 0.95))
        forced = one.speedups["forced"]
        case = f"draft-forced-rtt-{one.delay_ms:g}"
        rows.append(Row(case, forced, one.predicted, "formula", forced / one.predicted, "times plain", "higher", 0.85))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.draft", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--png", type=Path, help="where to draw speed against round trip")
    parser.add_argument("--rounds", type=int, default=5, help="answers of each kind at each distance")
    parser.add_argument("--only", choices=("identity", "distance"), help="one half of it")
    options = parser.parse_args()
    outcomes_: list[Outcome] = []
    distances: list[Distance] = []
    with tempfile.TemporaryDirectory() as folder:
        if options.only != "distance":
            outcomes_ = [*run(), asyncio.run(from_afar(Path(folder) / "toy"))]
        if options.only != "identity":
            distances = asyncio.run(at_distances(Path(folder), DELAYS_MS, options.rounds))
    if options.png and distances:
        draw(distances, options.png)
    if options.json:
        shown = {"outcomes": [asdict(one) for one in outcomes_], "distances": [asdict(one) for one in distances]}
        rows = [*identity_rows(outcomes_), *distance_rows(distances)]
        machine = {"name": "draft", "machine": platform.machine()}
        print(json.dumps(machine | shown | {"rows": [asdict(row) for row in rows]}))
        return
    for one in outcomes_:
        print(
            f"{one.setting:35} {one.draft:12} {one.same} of {len(PROMPTS)} the same, {one.accepted} of {one.drafted} "
            f"accepted, {one.plain_seconds / one.seconds:.2f} times as fast"
        )
    for distance in distances:
        print(words_of(distance))


if __name__ == "__main__":
    main()
