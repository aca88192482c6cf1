"""Callers get turns alike, the queue is bounded, and nobody's leaving costs a turn."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from llm.errors import QueueFull
from llm.turns import Turns, takes_a_slot
from transport.virtual_time import VirtualTimeLoop

loop_factory = VirtualTimeLoop


class Engine:
    """Requests of one second each; notes whose turn it was."""

    def __init__(self, slots: int = 1, queue_limit: int = 8) -> None:
        self.slots = slots
        self.turns = Turns("tiny", lambda: self.slots, queue_limit)
        self.served: list[str] = []
        self.refused: list[tuple[str, int | None]] = []
        self.running = 0

    async def ask(self, caller: str, lasts_s: float = 1.0) -> None:
        try:
            await self.turns.take(caller)
        except QueueFull as error:
            self.refused.append((caller, error.retry_after_s))
            return
        self.running += 1
        assert self.running <= self.slots
        self.served.append(caller)
        try:
            await asyncio.sleep(lasts_s)
        finally:
            self.running -= 1
            self.turns.give_back(lasts_s)


@asynccontextmanager
async def asking(engine: Engine, *callers: str) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Requests in this order; all have ended at the end."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(engine.ask(caller)) for caller in callers]
        await asyncio.sleep(0)
        yield tasks
    assert engine.running == 0
    assert engine.turns.waiting == 0


async def test_callers_take_turns() -> None:
    engine = Engine()
    async with asking(engine, "a", "a", "a", "a", "b", "c", "b"):
        pass
    assert engine.served == ["a", "a", "b", "c", "a", "b", "a"]


async def test_as_many_run_at_once_as_there_are_slots() -> None:
    engine = Engine(slots=3)
    start = asyncio.get_running_loop().time()
    async with asking(engine, *"abcdef"):
        assert engine.running == 3
    assert asyncio.get_running_loop().time() - start == pytest.approx(2)


async def test_a_full_queue_refuses_who_has_the_most_in_it() -> None:
    engine = Engine(queue_limit=3)
    async with asking(engine, "a", "a", "a", "a"):
        with pytest.raises(QueueFull):
            engine.turns.check("a")
        engine.turns.check("b")
        await engine.ask("b")
    assert [caller for caller, _ in engine.refused] == ["a"]
    assert engine.served.count("b") == 1


async def test_equals_do_not_push_each_other_out() -> None:
    engine = Engine(queue_limit=3)
    async with asking(engine, "x", "a", "b", "c"):
        await engine.ask("d")
    assert engine.refused == [("d", 6)]  # three waiting, one slot, two seconds guessed


async def test_when_to_come_back_follows_how_long_answers_take() -> None:
    engine = Engine(queue_limit=2)
    for _ in range(30):
        await engine.ask("a", lasts_s=10.0)
    async with asking(engine, "a", "b", "c", "d"):
        pass
    ((_, retry_after_s),) = engine.refused
    assert retry_after_s == 20


async def test_who_gives_up_leaves_the_queue() -> None:
    engine = Engine()
    async with asking(engine, "a", "b", "c") as tasks:
        tasks[1].cancel()
        await asyncio.sleep(0)
        assert engine.turns.waiting == 1
    assert engine.served == ["a", "c"]


async def test_a_turn_that_comes_in_the_moment_of_giving_up_goes_to_the_next() -> None:
    engine = Engine()
    async with asking(engine, "a", "b", "c") as tasks:
        await asyncio.sleep(1)
        # b has its turn now, but has not run since.
        engine.served.clear()
        tasks[1].cancel()
    assert engine.served in (["b", "c"], ["c"])


async def test_more_slots_are_used_at_once() -> None:
    engine = Engine()
    async with asking(engine, *"abcd"):
        engine.slots = 3
        engine.turns.advance()
        await asyncio.sleep(0)
        assert engine.running == 3


@pytest.mark.parametrize("seed", range(20))
async def test_nobody_starves_and_no_turn_is_lost_whatever_happens(seed: int) -> None:
    dice = random.Random(seed)
    engine = Engine(slots=dice.randint(1, 4), queue_limit=dice.randint(1, 12))
    async with asyncio.TaskGroup() as group:
        tasks = []
        for _ in range(200):
            tasks.append(group.create_task(engine.ask(dice.choice("aaaaabc"), dice.expovariate(1))))
            if dice.random() < 0.3:
                dice.choice(tasks).cancel()
            if dice.random() < 0.5:
                await asyncio.sleep(dice.expovariate(2))
    assert engine.running == engine.turns.waiting == 0
    async with asyncio.timeout(1.5):
        await engine.ask("last")
    assert engine.served[-1] == "last"


def test_what_does_not_generate_does_not_wait() -> None:
    assert takes_a_slot("POST", "/v1/chat/completions")
    assert takes_a_slot("POST", "/v1/embeddings?x=1")
    assert not takes_a_slot("GET", "/props")
    assert not takes_a_slot("POST", "/tokenize?x")
