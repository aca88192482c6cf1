"""Models come into memory when they are asked for, make room, leave when idle, and never take what is not there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from llm.engines.interface import EngineFailed, EngineState, Request
from llm.engines.resident import LOAD_DEADLINE_S, Busy, LacksNode, Residence, Resident, ResidentEngine, StillLoading
from llm.errors import RequestFailed
from llm.residency import Policy
from meshd.ledger import Account, Ledger
from tests.llm.engine_contract import EngineContract
from tests.llm.requests import chat, read
from tests.llm.scripted import ScriptedEngine
from transport.virtual_time import VirtualTimeLoop

loop_factory = VirtualTimeLoop

LOAD_S = 5.0
TTL_S = 100.0


class SlowToLoad(ScriptedEngine):
    """Takes its memory when it starts and gives it back when it ends, as a child process does."""

    def __init__(self, memory: Memory, need: int, becomes: EngineState, lasts_s: float = 0.0) -> None:
        super().__init__([lasts_s, b"x"])
        self.state = EngineState.STOPPED
        self._memory, self._need, self._becomes = memory, need, becomes

    async def run(self) -> None:
        self._memory.take(self._need)
        try:
            self.become(EngineState.LOADING)
            await asyncio.sleep(LOAD_S)
            self.become(self._becomes)
            await asyncio.Event().wait()
        finally:
            self.become(EngineState.STOPPED)
            self._memory.take(-self._need)


class Memory:
    """What is really in use."""

    def __init__(self, total: int) -> None:
        self.total, self.used, self.loads = total, 0, 0

    def take(self, amount: int) -> None:
        self.used += amount
        self.loads += amount > 0
        assert 0 <= self.used <= self.total


class Host:
    """A host with some memory, and models on it."""

    def __init__(self, group: asyncio.TaskGroup, total: int) -> None:
        self.memory = Memory(total)
        self.ledger = Ledger([Account("GPU", "cuda", total)])
        self.residence = Residence(self.ledger)
        self._group = group
        self._tasks: list[asyncio.Task[None]] = []

    def model(
        self,
        name: str,
        need: int,
        policy: Policy = Policy.LAZY,
        *,
        ttl_s: float = TTL_S,
        becomes: EngineState = EngineState.READY,
        lasts_s: float = 0.0,
    ) -> ResidentEngine:
        def make() -> SlowToLoad:
            return SlowToLoad(self.memory, need, becomes, lasts_s)

        engine = self.residence.add(Resident(name, make, need, 2, policy, ttl_s))
        self._tasks.append(self._group.create_task(engine.run(), name=name))
        return engine

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def host(total: int = 10) -> AsyncIterator[Host]:
    async with asyncio.TaskGroup() as group:
        found = Host(group, total)
        yield found
        found.stop()
    assert found.memory.used == 0
    assert found.ledger.free_bytes == total


def now() -> float:
    return asyncio.get_running_loop().time()


async def took(work: Awaitable[object]) -> float:
    start = now()
    await work
    return now() - start


async def ask(engine: ResidentEngine, deadline_s: float = 1000.0) -> bytes:
    return await read(await engine.answer(chat(deadline_s=deadline_s)))


class TestContract(EngineContract):
    """An engine that has loaded keeps what every engine keeps."""

    @pytest.fixture
    async def engine(self) -> AsyncIterator[ResidentEngine]:
        from llm.engines.echo import EchoEngine

        residence = Residence(Ledger([Account("GPU", "cuda", 10)]))
        engine = residence.add(Resident("tiny", lambda: EchoEngine("tiny"), 5, 4, Policy.PINNED))
        async with asyncio.TaskGroup() as group:
            running = group.create_task(engine.run())
            while engine.status.state is not EngineState.READY:
                await engine.changed()
            yield engine
            running.cancel()


async def test_a_lazy_model_loads_at_its_first_request_and_the_next_finds_it_there() -> None:
    async with host() as here:
        engine = here.model("m", 5)
        await asyncio.sleep(10)
        assert engine.status.state is EngineState.UNLOADED
        assert here.memory.used == 0
        assert await took(ask(engine)) == pytest.approx(LOAD_S)
        assert await took(ask(engine)) == 0


async def test_a_pinned_model_loads_at_once_and_stays() -> None:
    async with host() as here:
        engine = here.model("m", 5, Policy.PINNED)
        await asyncio.sleep(10 * TTL_S)
        assert engine.status.state is EngineState.READY
        assert here.memory.loads == 1


async def test_an_idle_lazy_model_leaves_and_comes_back() -> None:
    async with host() as here:
        engine = here.model("m", 5)
        await ask(engine)
        await asyncio.sleep(TTL_S - 1)
        await ask(engine)
        await asyncio.sleep(TTL_S - 1)
        assert here.memory.used == 5
        await asyncio.sleep(2)
        assert here.memory.used == 0
        assert engine.status.state is EngineState.UNLOADED
        await ask(engine)
        assert here.memory.loads == 2


async def test_a_long_answer_is_not_idleness() -> None:
    async with host() as here:
        engine = here.model("m", 5, lasts_s=3 * TTL_S)
        assert await ask(engine) == b"x"
        assert here.memory.loads == 1


async def test_an_idle_model_makes_room_the_one_used_longest_ago_first() -> None:
    async with host(10) as here:
        old, new, third = (here.model(name, 4) for name in ("old", "new", "third"))
        await ask(old)
        await asyncio.sleep(1)
        await ask(new)
        await ask(third)
        states = [engine.status.state for engine in (old, new, third)]
        assert states == [EngineState.UNLOADED, EngineState.READY, EngineState.READY]


async def test_an_answering_or_pinned_model_does_not_make_room_and_who_waits_is_told_why() -> None:
    async with host(10) as here:
        engine, other = here.model("answers", 6, lasts_s=50.0), here.model("waits", 6)
        told: list[str] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(ask(engine))
            await asyncio.sleep(1)
            request = replace(chat(deadline_s=1000.0), on_progress=told.append)
            waiting = group.create_task(took(_read(other, request)))
            await asyncio.sleep(20)
            assert other.status.state is EngineState.WAITING
            assert "waits needs 0.00 GB" in other.status.reason
        assert LOAD_S + 50 <= waiting.result() <= LOAD_S * 2 + 52
        assert any("waiting" in line for line in told)
        assert any("loading" in line for line in told)


async def _read(engine: ResidentEngine, request: Request) -> bytes:
    return await read(await engine.answer(request))


async def test_patience_ends_with_the_deadline_and_in_words() -> None:
    async with host(10) as here:
        here.model("pinned", 8, Policy.PINNED)
        other = here.model("other", 5)
        with pytest.raises(StillLoading, match=r"not in memory after 30 s: other needs .* pinned") as caught:
            await ask(other, deadline_s=30.0)
        assert caught.value.retry_after_s
        assert await took(_failing(ask(other, deadline_s=9999.0))) == pytest.approx(LOAD_DEADLINE_S)
        assert other.in_flight == 0


async def _failing(work: Awaitable[object]) -> None:
    with pytest.raises(StillLoading):
        await work


async def test_memory_that_another_program_gives_back_is_seen() -> None:
    async with host(10) as here:
        here.ledger.reconcile([8])
        engine = here.model("m", 5)
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(ask(engine))
            await asyncio.sleep(20)
            assert engine.status.state is EngineState.WAITING
            here.ledger.reconcile([0])
            await asyncio.sleep(LOAD_S + 3)
            assert asking.done()


async def test_a_model_too_large_does_not_keep_a_small_one_from_loading() -> None:
    async with host(10) as here:
        large, small = here.model("large", 50), here.model("small", 5)
        async with asyncio.TaskGroup() as group:
            group.create_task(_failing(ask(large, deadline_s=60.0)))
            await asyncio.sleep(1)
            assert await took(ask(small)) == pytest.approx(LOAD_S)


@pytest.mark.parametrize(("becomes", "error"), [(EngineState.FAILED, EngineFailed), (EngineState.WAITING, LacksNode)])
async def test_a_load_that_fails_or_waits_for_other_nodes_is_told_to_all_who_wait(
    becomes: EngineState, error: type[RequestFailed]
) -> None:
    async with host() as here:
        engine = here.model("m", 5, becomes=becomes)
        start = now()
        results = await asyncio.gather(*(ask(engine) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(one, error) and one.retryable for one in results)
        assert now() - start < 3 * LOAD_S
        assert engine.in_flight == 0


async def test_who_stops_waiting_leaves_nothing_behind() -> None:
    async with host() as here:
        engine = here.model("m", 5)
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(ask(engine))
            await asyncio.sleep(1)
            asking.cancel()
        assert engine.in_flight == 0


async def test_commands_load_unload_and_pin() -> None:
    async with host() as here:
        engine = here.model("m", 5, lasts_s=20.0)
        engine.load()
        await asyncio.sleep(LOAD_S + 1)
        assert engine.status.state is EngineState.READY
        async with asyncio.TaskGroup() as group:
            group.create_task(ask(engine))
            await asyncio.sleep(1)
            with pytest.raises(Busy, match="1 requests"):
                await engine.unload("somebody said so")
        await engine.unload("somebody said so")
        assert (here.memory.used, engine.status.reason) == (0, "unloaded: somebody said so")
        engine.load()
        engine.pin(Policy.PINNED)
        await asyncio.sleep(5 * TTL_S)
        assert here.memory.used == 5


async def test_a_model_that_waits_for_memory_can_be_called_off() -> None:
    async with host(10) as here:
        here.model("pinned", 8, Policy.PINNED)
        engine = here.model("m", 5)
        engine.load()
        states = []
        for act in (asyncio.sleep(5), engine.unload("never mind"), asyncio.sleep(5)):
            await act
            states.append(engine.status.state)
        assert states == [EngineState.WAITING, EngineState.UNLOADED, EngineState.UNLOADED]


async def test_a_form_may_ask_for_room() -> None:
    async with host(10) as here:
        engine = here.model("m", 8)
        await ask(engine)
        assert await here.residence.make_room(lambda: here.ledger.free_bytes >= 5)
        assert here.ledger.free_bytes == 10
        here.model("pinned", 8, Policy.PINNED)
        await asyncio.sleep(LOAD_S)
        assert not await here.residence.make_room(lambda: here.ledger.free_bytes >= 5)


async def test_no_more_models_make_room_than_have_to() -> None:
    async with host(10) as here:
        for name in ("oldest", "older", "new"):
            await ask(here.model(name, 3))
        assert await here.residence.make_room(lambda: here.ledger.free_bytes >= 4)
        assert [one.holder for one in here.ledger.reservations] == ["older", "new"]
        assert await here.residence.make_room(lambda: True)
        assert here.ledger.free_bytes == 4


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_is_asked_in_whatever_order_memory_is_never_promised_twice(seed: int) -> None:
    """`Memory.take` fails the test when more is in use than there is; every request ends."""
    dice = random.Random(seed)
    async with host(10) as here:
        engines = [here.model(f"m{number}", dice.randint(2, 9), lasts_s=dice.uniform(0, 8)) for number in range(4)]
        acts: list[Callable[[ResidentEngine], Awaitable[object]]] = [ask, ask, ask, _unload]
        async with asyncio.TaskGroup() as group:
            tasks = []
            for _ in range(60):
                tasks.append(group.create_task(_typed(dice.choice(acts), dice.choice(engines))))
                if dice.random() < 0.2:
                    dice.choice(tasks).cancel()
                await asyncio.sleep(dice.expovariate(0.3))
        assert [engine.in_flight for engine in engines] == [0] * 4


async def _unload(engine: ResidentEngine) -> None:
    await engine.unload("a test said so")


async def _typed(act: Callable[[ResidentEngine], Awaitable[object]], engine: ResidentEngine) -> None:
    try:
        await act(engine)
    except (Busy, StillLoading):
        return
