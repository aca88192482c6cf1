"""A node's own calls: what waits, what was learnt, what is told of it and when."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from forms.announce import INTERVAL_S, announce
from forms.backend import Backend
from forms.catalogue import shipped
from forms.computed import Computed
from forms.errors import UnknownOperation, WorkerLost
from forms.forms_fact import FORMS_FACT, decode_fact
from forms.here import MEASURE_AGAIN_S, UNKNOWN_S, Here
from forms.request import Request
from tests.forms.nodes import request, sort_call, sorts
from transport import virtual_time
from transport.interface import NodeId

FORM = "cuda-radix-sort"


def run(scenario: Coroutine[Any, Any, None]) -> None:
    virtual_time.run(scenario)


class Steady:
    """Takes as long as it is told for a unit of work, one call after the other; says half of that was computing."""

    def __init__(self, per_work_s: float) -> None:
        self.per_work_s = per_work_s
        self.is_lost = False
        self.calls = 0
        self._turn = asyncio.Lock()

    async def compute(self, kind: int, payload: bytes, deadline_s: float) -> Computed:
        async with self._turn:
            self.calls += 1
            if self.is_lost:
                raise WorkerLost("gone")
            work = float(payload.count(b" ")) if kind == 0 else len(payload) / 8
            await asyncio.sleep(self.per_work_s * work)
            return Computed(b"(ok)\n", FORM, Backend.CPU, work, self.per_work_s * work / 2, is_cold=False)


def made(worker: Steady) -> Here:
    return Here(shipped(), worker, probes=sorts, clock=asyncio.get_running_loop().time)


def test_the_way_to_the_worker_is_part_of_the_cost_and_waiting_is_not() -> None:
    async def scenario() -> None:
        here = made(Steady(0.01))
        for count in (10, 1000):
            await here.compute(request(sort_call(count)), 60)
        cost = here.costs.cost(FORM, is_text=True)
        assert cost is not None
        assert cost.line.at(1000) == pytest.approx(10.0, rel=0.05)
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(here.compute(request(sort_call(100)), 60)) for _ in range(5)]
        assert len(calls) == 5
        cost = here.costs.cost(FORM, is_text=True)
        assert cost is not None
        assert cost.line.at(100) < 1.2, "four of them waited, and that is not what they cost"

    run(scenario())


def test_a_queue_is_as_long_as_what_waits_in_it() -> None:
    async def scenario() -> None:
        here = made(Steady(0.01))
        assert here.guess_s(FORM, request(sort_call(100))) == UNKNOWN_S
        for count in (10, 1000):
            await here.compute(request(sort_call(count)), 60)
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(here.compute(request(sort_call(1000)), 600))
            await asyncio.sleep(4)
            assert here.in_flight == 3
            assert here.queue_s == pytest.approx(26.0, rel=0.1)
        assert here.queue_s == 0.0

    run(scenario())


def test_forms_are_measured_once_and_again_after_a_loss() -> None:
    async def scenario() -> None:
        worker = Steady(1e-6)
        here = made(worker)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(here.run())
            await asyncio.sleep(100)
            assert worker.calls == 0, "nobody wants to know"
            for _ in range(3):
                here.measure_soon()
                await asyncio.sleep(10)
            assert here.fact().is_warm
            assert worker.calls == 6
            worker.is_lost = True
            with pytest.raises(WorkerLost):
                await here.compute(request(sort_call(5)), 10)
            assert not here.fact().is_warm
            here.measure_soon()
            await asyncio.sleep(1)
            worker.is_lost = False
            here.measure_soon()
            await asyncio.sleep(3 * MEASURE_AGAIN_S)
            here.measure_soon()
            await asyncio.sleep(1)
            assert here.fact().is_warm
            running.cancel()

    run(scenario())


def test_what_is_no_form_is_not_computed() -> None:
    async def scenario() -> None:
        here = made(Steady(1.0))
        for asked in (request("(ping)"), request("5"), Request(False, b"BXYZ")):
            with pytest.raises(UnknownOperation):
                await here.compute(asked, 10)

    run(scenario())


def test_the_mesh_is_told_of_what_matters_and_seldom() -> None:
    async def scenario() -> None:
        worker = Steady(1e-4)
        here = made(worker)
        told: list[bytes] = []

        def publish(key: str, value: bytes) -> None:
            assert key == FORMS_FACT
            told.append(value)

        async with asyncio.TaskGroup() as group:
            telling = group.create_task(announce(here, publish))
            measuring = group.create_task(here.run())
            await asyncio.sleep(10)
            assert told == []
            for _ in range(200):
                await here.compute(request(sort_call(50)), 60)
                await here.compute(request(sort_call(900)), 60)
            settled = len(told)
            assert settled <= 4
            for _ in range(200):
                await here.compute(request(sort_call(50)), 60)
            assert len(told) == settled
            worker.per_work_s *= 3
            for _ in range(100):
                await here.compute(request(sort_call(900)), 60)
            assert settled < len(told) < settled + 12
            await asyncio.sleep(2 * INTERVAL_S)
            last = decode_fact(told[-1], NodeId(bytes(32)))
            assert [row.form for row in last.costs] == [cost.form for cost in here.costs.current]
            telling.cancel()
            measuring.cancel()

    run(scenario())
