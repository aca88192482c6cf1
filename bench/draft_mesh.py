"""A drafter at a distance: two real agents, one with a slow target, one with a small drafter, a UDP relay between them.

Both models are generated and recall by construction (tests/llm/sessions/recall_model.py): after a text that repeats
itself they say what it said before, so that every draft is right. The target carries ballast, feed-forward layers that
compute nothing that matters, so that a token takes as long as in a model of its size. What is synthetic is therefore
how many drafts stand; what everything costs is not.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from llm.sessions.drafting import break_even_round_trip_s
from meshd.impaired_agents import ImpairedAgents
from meshd.local_agents import LocalAgent, local_agents
from tests.llm.sessions.recall_model import WORDS, write_recall_model
from transport.impairment import Conditions

BALLAST_ROWS = 64 << 10
BLOCK = 8
TOKENS = 128
STORY_WORDS = 40
READY_S = 120.0
SETTLE_S = 1.0
MODES: dict[str, dict[str, Any]] = {
    "plain": {"draft": "none"},
    "forced": {"draft": "far", "draft_tokens": BLOCK},
    "automatic": {"draft": "far"},
}


@dataclass(frozen=True, slots=True)
class Answer:
    """seconds: from its first token to its last.  plain_tokens: those that no block gave."""

    text: str
    tokens: int
    seconds: float
    blocks: int
    drafted: int
    accepted: int

    @property
    def token_s(self) -> float:
        return self.seconds / self.tokens

    @property
    def plain_tokens(self) -> int:
        return self.tokens - self.blocks - self.accepted


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds, as the host measured them. verify_s, draft_s: of a block.

    way_s: there and back, without the relay's delay.
    """

    plain_s: float
    verify_s: float
    draft_s: float
    way_s: float

    def predicted_speedup(self, answer: Answer, delay_s: float) -> float:
        """S of the whole answer: its blocks by the formula, its other tokens as plain ones."""
        block_s = self.verify_s + self.draft_s + self.way_s + delay_s
        return answer.tokens * self.plain_s / (answer.plain_tokens * self.plain_s + answer.blocks * block_s)

    def break_even_s(self, tokens_per_block: float) -> float:
        return break_even_round_trip_s(tokens_per_block, self.plain_s, self.verify_s + self.draft_s)


@dataclass(slots=True)
class Distance:
    """What was measured at one delay. same, asked: answers with drafts that are what plain decoding said, of all.

    seconds: for a token, by mode.  speedups: over the plain answers before and after.  predicted: of forced drafts.
    All are medians of the rounds.  state: of the controller at the end.
    """

    delay_ms: float
    seconds: dict[str, float] = field(default_factory=dict)
    speedups: dict[str, float] = field(default_factory=dict)
    predicted: float = 0.0
    same: int = 0
    asked: int = 0
    state: str = ""
    round_trip_ms: float = 0.0
    costs: Costs | None = None
    tokens_per_block: float = 0.0

    @property
    def break_even_ms(self) -> float:
        """RTT*: there and back, what the program itself adds included."""
        return 1000 * self.costs.break_even_s(self.tokens_per_block) if self.costs is not None else 0.0


@dataclass(frozen=True, slots=True)
class Stage:
    """host: has the model `target`.  drafter: has none but the drafter.  tokens: of an answer."""

    agents: ImpairedAgents
    host: LocalAgent
    drafter: LocalAgent
    http: aiohttp.ClientSession
    api: str
    model: str
    tokens: int

    async def be_apart(self, delay_ms: float) -> None:
        """Let every packet take half of `delay_ms`, so that a round trip takes all of it."""
        for relay in self.agents.relays:
            for line in (relay.there, relay.back):
                line.change(Conditions(delay_s=delay_ms / 2000))
        await asyncio.sleep(SETTLE_S)

    async def answer(self, text: str, **how: Any) -> Answer:
        """One answer in a session of its own."""
        async with self.http.post(f"{self.api}/v1/sessions", json={"model": self.model}) as response:
            session = f"{self.api}/v1/sessions/{(await response.json())['id']}"
        body = {"text": text, "max_tokens": self.tokens, "stream": False, **how}
        async with self.http.post(f"{session}/generate", json=body) as response:
            said = await response.json()
        async with self.http.delete(session):
            pass
        timings = said["timings"]
        return Answer(
            said["choices"][0]["text"],
            timings["predicted_n"],
            timings["predicted_ms"] / 1000,
            timings.get("draft_blocks", 0),
            timings.get("draft_n", 0),
            timings.get("draft_n_accepted", 0),
        )

    async def account(self) -> dict[str, Any]:
        """How drafting goes, as the host's status says."""
        return dict((await self.host.status())["drafting"]["models"][0])


@asynccontextmanager
async def staged(folder: Path, target: Path, draft: Path, tokens: int = TOKENS) -> AsyncIterator[Stage]:
    """Two agents that have found one another and loaded their models."""
    agents = ImpairedAgents(local_agents(folder), Conditions())
    serves = ("--model", str(target), "--threads", "1", "--parallel", "1", "--ctx", "1024", "--no-bend")
    async with agents.start("host", serves) as host:
        joins = ("--join", await host.token("member"), "--drafter", str(draft), "--threads", "1", "--no-bend")
        async with (
            agents.start("drafter", joins) as drafter,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600)) as http,
        ):
            status = await host.until(_is_ready, READY_S)
            yield Stage(agents, host, drafter, http, status["doors"]["api"], target.stem, tokens)


def _is_ready(status: dict[str, Any]) -> bool:
    models = status["models"]
    return bool(status["drafting"]["drafters"]) and bool(models) and models[0]["state"] == "ready"


def write_models(folder: Path, ballast: int = BALLAST_ROWS) -> tuple[Path, Path]:
    """A target that is slow by its size, and a drafter that is always right."""
    target = write_recall_model(folder / "target.gguf", quantised=True, context_tokens=2048, ballast=ballast)
    return target, write_recall_model(folder / "small.gguf", quantised=True, context_tokens=2048)


def story(seed: int) -> str:
    """A text that has been said twice: it goes on as it began."""
    dice = random.Random(seed)
    return "".join(f" w{number}" for number in dice.sample(range(WORDS), STORY_WORDS)) * 2


async def measure(stage: Stage, delay_ms: float, rounds: int, base: Distance | None) -> Distance:
    """All modes in turns at one delay. base: what was measured without any, for the way's own time."""
    await stage.be_apart(delay_ms)
    await stage.answer(story(0), **MODES["forced"])  # what it was at another distance is unlearnt
    await stage.answer(story(0), **MODES["automatic"])
    turns = [await _turn(stage, number) for number in range(rounds)]
    way_ms = _median([one.account["round_trip_ms"] for one in turns])
    way_s = way_ms / 1000 if base is None or base.costs is None else base.costs.way_s
    costs = [one.costs(way_s) for one in turns]
    forced = [one.answers["forced"] for one in turns]
    drafted = [mode for mode in MODES if mode != "plain"]
    return Distance(
        delay_ms,
        seconds={mode: _median([one.answers[mode].token_s for one in turns]) for mode in MODES},
        speedups={mode: _median([one.plain_s / one.answers[mode].token_s for one in turns]) for mode in drafted},
        predicted=_median(
            [cost.predicted_speedup(one, delay_ms / 1000) for cost, one in zip(costs, forced, strict=True)]
        ),
        same=sum(one.answers[mode].text == one.answers["plain"].text for one in turns for mode in drafted),
        asked=len(turns) * len(drafted),
        state=(await stage.account())["state"],
        round_trip_ms=way_ms,
        costs=Costs(
            _median([one.plain_s for one in costs]),
            _median([one.verify_s for one in costs]),
            _median([one.draft_s for one in costs]),
            way_s,
        ),
        tokens_per_block=_median([1 + one.accepted / max(1, one.blocks) for one in forced]),
    )


@dataclass(frozen=True, slots=True)
class _Turn:
    """An answer of each kind. after: plain again, for a busy machine drifts.  account: right after the forced one."""

    answers: dict[str, Answer]
    after: Answer
    account: dict[str, Any]

    @property
    def plain_s(self) -> float:
        return (self.answers["plain"].token_s + self.after.token_s) / 2

    def costs(self, way_s: float) -> Costs:
        return Costs(self.plain_s, self.account["verify_ms"] / 1000, self.account["draft_ms"] / 1000, way_s)


async def _turn(stage: Stage, number: int) -> _Turn:
    answers, account = {}, {}
    for mode, how in MODES.items():
        answers[mode] = await stage.answer(story(number), **how)
        if mode == "forced":
            account = await stage.account()
    return _Turn(answers, await stage.answer(story(number), **MODES["plain"]), account)


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)
