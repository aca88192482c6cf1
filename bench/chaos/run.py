"""A mesh of six real agents and three models, asked while it is being broken."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy

from bench.chaos.harm import Victims, harm_until_over
from bench.chaos.request import Judgement, Outcome, Question, expected_text, outcome
from meshd.impaired_agents import ImpairedAgents
from meshd.local_agents import LocalAgents
from meshd.local_mesh import LocalMesh
from tests.llm.tiny_gguf import write_tiny_gguf
from transport.impairment import CLEAR

MODELS = ("red", "green", "blue")
"""Red and green are on two hosts each, blue is split over two."""
PROMPTS = ("Once", "Tell me", "What is it")
MODEL_WEIGHTS = (2, 2, 1)
LENGTHS = (8, 40, 160)
LENGTH_WEIGHTS = (5, 4, 1)
SPARED = "laptop"
PATIENCE_S = 120.0
LAST_S = 30.0
"""For what is still open when the last thing has been mended."""
HARMS_AT_ONCE = 2

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """rate: requests a second.  pause_s: between one harm and the next, of each of the two that go on at once."""

    seed: int
    requests: int
    rate: float
    pause_s: tuple[float, float] = (0.5, 3.0)


@dataclass(frozen=True, slots=True)
class Result:
    """open: requests that had not ended LAST_S after the last harm.  recovered_s: until all was right after it."""

    outcomes: tuple[Outcome, ...]
    open: int
    harms: Counter[str]
    took_s: float
    recovered_s: float

    def kinds(self) -> Counter[str]:
        """How the requests ended: "right", the errors by name, "door killed", "wrong"."""
        return Counter(
            one.judgement.detail if one.judgement.kind == "error" else one.judgement.kind for one in self.outcomes
        )

    def wrong(self) -> list[Outcome]:
        """What ought not to be: a wrong text, an error without words, a connection cut by a door that lived."""
        return [one for one in self.outcomes if one.judgement.kind in ("wrong", "cut")]


async def run(plan: Plan, agents: LocalAgents, say: Say) -> Result:
    """Ask all requests while things break. Raises AgentFailed, TimeoutError when the mesh does not even form."""
    dice = random.Random(plan.seed)
    ways = ImpairedAgents(agents, CLEAR)
    async with LocalMesh(ways) as mesh, session() as http:
        doors = await form(mesh, agents.folder)
        expected = await _all_expected(http, doors[SPARED])
        say("the mesh is at peace and its texts are known")
        began = time.monotonic()
        victims = Victims(
            mesh, ways, frozenset({SPARED}), doors, random.Random(plan.seed + 1), lambda words: say(_at(began, words))
        )
        asked = Asked(http, victims, expected, lambda words: say(_at(began, words)))
        async with asyncio.TaskGroup() as group:
            harming = [group.create_task(harm_until_over(victims, plan.pause_s)) for _ in range(HARMS_AT_ONCE)]
            await asked.ask_all(group, plan, dice)
            victims.over.set()
            await asyncio.wait(harming)
            say(_at(began, f"all is mended; {len(asked.open)} requests are open"))
            still_open = await asked.give_up()
        took_s = time.monotonic() - began
        recovered_s = await _recovered(http, victims, expected)
        return Result(tuple(asked.outcomes), still_open, victims.done, took_s, recovered_s)


@asynccontextmanager
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Connections without end, none of them used twice: a kept one may be of a door that has died since."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as opened:
        yield opened


async def form(mesh: LocalMesh, folder: Path) -> dict[str, str]:
    """Start the six; the API of each."""
    red, green, blue = (_model(folder, name, number + 1) for number, name in enumerate(MODELS))
    # One slot: what others in a batch ask may decide a tie between two tokens.
    engine = ("--threads", "1", "--ctx", "512", "--parallel", "1")
    small = ("--vram-limit", "0.3")
    founder = await mesh.start("north", "--model", red, "--model", green, *engine, *small)
    member = await founder.token("member", uses=4)
    client = await founder.token("client")
    async with asyncio.TaskGroup() as group:
        for name, token, *arguments in (
            ("east", member, "--model", red, *engine, *small),
            ("south", member, "--model", green, *engine, *small),
            ("lead", member, "--model", blue, *engine, "--vram-limit", "2", "--split"),
            ("worker", member, "--vram-limit", "1", "--threads", "1"),
            (SPARED, client, "--client"),
        ):
            group.create_task(mesh.join(name, token, *arguments), name=f"start {name}")
    laptop = await mesh.agents[SPARED].until(_is_whole, PATIENCE_S)
    doors = {SPARED: str(laptop["doors"]["api"])}
    for name in set(mesh.running) - {SPARED}:
        doors[name] = str((await mesh.agents[name].until(_knows_all, PATIENCE_S))["doors"]["api"])
    return doors


class Asked:
    """The requests: those that are open, and what became of the others."""

    def __init__(
        self, http: aiohttp.ClientSession, victims: Victims, expected: dict[tuple[str, str, int], str], say: Say
    ) -> None:
        self._http = http
        self._victims = victims
        self._expected = expected
        self._say = say
        self.open: set[asyncio.Task[None]] = set()
        self.outcomes: list[Outcome] = []

    async def ask_all(self, group: asyncio.TaskGroup, plan: Plan, dice: random.Random) -> None:
        """Start them, at random times that make the plan's rate."""
        for number in range(plan.requests):
            await asyncio.sleep(dice.expovariate(plan.rate))
            door = dice.choice(sorted(self._victims.doors))
            question = Question(
                dice.choices(MODELS, MODEL_WEIGHTS)[0],
                dice.choice(PROMPTS),
                dice.choices(LENGTHS, LENGTH_WEIGHTS)[0],
                is_stream=dice.random() < 0.5,
            )
            task = group.create_task(self._ask(door, question), name=f"request {number}")
            self.open.add(task)
            task.add_done_callback(self.open.discard)

    async def give_up(self) -> int:
        """Wait for what is open, at most LAST_S; how many are open even then."""
        if self.open:
            await asyncio.wait(self.open, timeout=LAST_S)
        left = list(self.open)
        for task in left:
            task.cancel()
        return len(left)

    async def _ask(self, door: str, question: Question) -> None:
        url = self._victims.doors[door]
        expected = self._expected[question.model, question.prompt, question.tokens]
        done = await outcome(self._http, door, url, question, expected)
        if done.judgement.kind == "cut" and self._victims.was_killed(door, done.began, done.ended):
            done = Outcome(question, door, Judgement("door killed"), done.began, done.ended)
        self.outcomes.append(done)
        if done.judgement.kind in ("wrong", "cut"):
            self._say(f"{done.judgement.kind}: {question} at {door} after {done.seconds:.1f} s: {done.judgement}")


async def _all_expected(http: aiohttp.ClientSession, url: str) -> dict[tuple[str, str, int], str]:
    return {
        (model, prompt, tokens): await expected_text(
            http, url, Question(model, prompt, tokens, is_stream=False), PATIENCE_S
        )
        for model in MODELS
        for prompt in PROMPTS
        for tokens in LENGTHS
    }


async def _recovered(http: aiohttp.ClientSession, victims: Victims, expected: dict[tuple[str, str, int], str]) -> float:
    """Seconds until each door has given a right answer for each model. Raises TimeoutError."""
    began = time.monotonic()
    for url in victims.doors.values():
        for model in MODELS:
            question = Question(model, PROMPTS[0], LENGTHS[0], is_stream=False)
            text = await expected_text(http, url, question, PATIENCE_S)
            assert text == expected[model, PROMPTS[0], LENGTHS[0]], (url, model, text)
    return time.monotonic() - began


def _model(folder: Path, name: str, seed: int) -> str:
    path = folder / f"{name}.gguf"
    return str(write_tiny_gguf(path, width=256, seed=seed, context_tokens=512, matrix_type=numpy.float16))


def _knows_all(status: dict[str, Any]) -> bool:
    ready = {one["name"]: one for one in status["models"] if one["state"] == "ready"}
    return set(ready) == set(MODELS)


def _is_whole(status: dict[str, Any]) -> bool:
    if not _knows_all(status):
        return False
    models = {one["name"]: one for one in status["models"]}
    return all(len(models[name]["hosts"]) == 2 for name in ("red", "green")) and models["blue"]["mode"] == "split"


def _at(began: float, words: str) -> str:
    return f"{time.monotonic() - began:7.1f} s  {words}"
