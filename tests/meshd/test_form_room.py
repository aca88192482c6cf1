"""A form's call and a model never count on the same bytes: both are in one ledger, and the later one waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from forms.errors import Busy
from llm.changes import Changes
from llm.residency import Makeup, NoRoom, Reservation
from meshd.form_room import FormRoom
from meshd.ledger import Account, Ledger
from transport.virtual_time import VirtualTimeLoop

loop_factory = VirtualTimeLoop

GB = 10**9


class Memory:
    """A host with one GPU of 10 GB, told as `HostMemory` tells of it."""

    def __init__(self) -> None:
        self.ledger = Ledger([Account("GPU", "cuda", 10 * GB)])
        self._changes = Changes()

    def reserve_on(self, device: str, holder: str, need_bytes: int, makeup: Makeup) -> Reservation | None:
        return self.ledger.reserve_on(0, holder, need_bytes, makeup) if device == "cuda:0" else None

    def release(self, reservation: Reservation) -> None:
        self.ledger.release(reservation)
        self._changes.notify()

    async def changed(self) -> None:
        await self._changes.wait()


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_call_waits_for_a_model_to_leave_and_a_model_for_a_call() -> None:
    memory = Memory()
    room = FormRoom(memory)
    model = memory.ledger.reserve("model", 8 * GB)

    async def leave() -> None:
        await asyncio.sleep(1)
        memory.release(model)

    async with asyncio.TaskGroup() as group:
        group.create_task(leave())
        async with room.hold("cuda:0", 5 * GB, now() + 60):
            assert now() == pytest.approx(1)
            with pytest.raises(NoRoom, match=r"forms on cuda:0 5.00 GB"):
                memory.ledger.reserve("model", 8 * GB)
    memory.ledger.reserve("model", 8 * GB)


async def test_without_room_a_call_is_busy_at_its_deadline_and_says_who_has_the_memory() -> None:
    memory = Memory()
    memory.ledger.reserve("qwen", 8 * GB)
    with pytest.raises(Busy, match=r"forms on cuda:0 needs 5.00 GB of GPU, where 2.00 GB are left; .*qwen 8.00 GB"):
        async with FormRoom(memory).hold("cuda:0", 5 * GB, now() + 7):
            pytest.fail("there was no room")
    assert now() == pytest.approx(7)
    assert memory.ledger.free_bytes == 2 * GB


async def test_what_another_program_gives_back_is_seen_without_being_told() -> None:
    memory = Memory()
    memory.ledger.reconcile([9 * GB])

    async def give_back() -> None:
        await asyncio.sleep(3)
        memory.ledger.reconcile([0])

    async with asyncio.TaskGroup() as group:
        group.create_task(give_back())
        async with FormRoom(memory).hold("cuda:0", 5 * GB, now() + 60):
            assert 3 <= now() <= 5


async def test_memory_that_no_ledger_has_is_not_waited_for() -> None:
    async with FormRoom(Memory()).hold("cpu", 50 * GB, now()):
        pass


@pytest.mark.parametrize("is_in_the_way", [True, False])
async def test_a_call_that_may_displace_ends_what_is_in_its_way(is_in_the_way: bool) -> None:
    memory = Memory()
    model = memory.ledger.reserve("model", 8 * GB if is_in_the_way else 4 * GB)
    displaced: list[float] = []

    async def displace(fits: Callable[[], bool]) -> bool:
        if not fits():
            displaced.append(now())
            memory.release(model)
        return fits()

    async with FormRoom(memory, displace).hold("cuda:0", 5 * GB, now() + 60):
        assert memory.ledger.free_bytes == (5 * GB if is_in_the_way else GB)
    assert bool(displaced) is is_in_the_way
    assert now() == 0
