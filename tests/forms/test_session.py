"""Calls between nodes: where they go, what comes back, and what happens when somebody dies."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from forms.errors import NotFound, UnknownOperation, WorkerLost
from forms.forms_fact import FORMS_FACT, decode_fact, encode_fact
from forms.places import HERE, Place
from forms.request import Request
from tests.forms.nodes import BASE_S, PER_WORK_S, measured, nodes, request, sort_call, sorted_reply, until
from transport import virtual_time
from transport.interface import Role


def run(scenario: Coroutine[Any, Any, None]) -> None:
    virtual_time.run(scenario)


def test_a_small_call_stays_and_a_large_one_goes_to_the_faster_node() -> None:
    async def scenario() -> None:
        async with nodes(4.0, 1.0) as (slow, fast):
            await measured((slow, fast))
            assert await slow.bend(sort_call(3)) == sorted_reply(3)
            assert (len(slow.worker.computed), len(fast.worker.computed)) == (1, 0)
            assert await slow.bend(sort_call(3000)) == sorted_reply(3000)
            assert (len(slow.worker.computed), len(fast.worker.computed)) == (1, 1)
            assert await fast.bend(sort_call(3000)) == sorted_reply(3000)
            assert (len(slow.worker.computed), len(fast.worker.computed)) == (1, 2)
            decision = slow.session.decisions[-1]
            assert decision.place == "n2"
            assert decision.predicted_s is not None
            assert decision.actual_s == pytest.approx(decision.predicted_s, rel=0.2)

    run(scenario())


def test_a_frame_goes_there_and_its_reply_comes_back_whole() -> None:
    async def scenario() -> None:
        async with nodes(9.0, 1.0) as (slow, fast):
            await measured((slow, fast))
            count = 200_000
            frame = struct.pack("<4sIQ", b"BSRT", 0, count) + struct.pack(f"<{count}Q", *reversed(range(count)))
            reply = await slow.operations.bend_frame(frame)
            assert reply == struct.pack("<4sQ", b"BSRR", count) + struct.pack(f"<{count}Q", *range(count))
            assert fast.worker.computed == [frame]

    run(scenario())


def test_an_error_of_the_call_is_its_reply_wherever_it_ran() -> None:
    async def scenario() -> None:
        async with nodes(1.0, 1.0) as (here, there):
            await measured((here, there))
            bad = request("(cuda-radix-sort '(x))")
            said = [(await here.session.call(bad, place, 10)).reply for place in (HERE, Place(node=there.id))]
            assert said[0] == said[1]
            assert said[0].startswith(b"(error (argument ")
            assert await here.bend("(cuda-radix-sort '(x))") == said[0].decode().strip()
            assert await here.bend("(ping)") == "(error (unknown-op ping))"
            assert (await here.operations.answer_text(b"(bend)")).startswith(b"(error (syntax ")

    run(scenario())


@pytest.mark.parametrize(
    ("asked", "said"),
    [(b"(ping)", b"(ok pong)\n"), (b"(echo 7)", b"(ok 7)\n"), (b"(bend (cuda-radix-sort '(2 1)))", b"(ok (1 2))\n")],
)
def test_what_every_door_answers_the_mesh_answers(asked: bytes, said: bytes) -> None:
    async def scenario() -> None:
        async with nodes(1.0, 1.0) as (here, there):
            done = await here.session.call(Request(True, asked), Place(node=there.id), 10)
            assert done.reply == said

    run(scenario())


def test_what_a_node_does_not_have_it_is_not_asked_again() -> None:
    async def scenario() -> None:
        async with nodes(1.0, 1.0) as (here, there):
            for _ in range(2):
                with pytest.raises(UnknownOperation):
                    await here.session.call(Request(True, b"(nope)"), Place(node=there.id), 10)

    run(scenario())


def test_nodes_are_asked_to_find_out_what_they_cost() -> None:
    async def scenario() -> None:
        async with nodes(1.0, 1.0, 1.0) as (here, *others):
            assert await here.bend(sort_call(5)) == sorted_reply(5)
            await until(lambda: here.is_measured and all(node.is_measured for node in others))

    run(scenario())


def test_a_queue_sends_calls_elsewhere_though_there_is_slower() -> None:
    async def scenario() -> None:
        async with nodes(1.0, 1.5) as made:
            here, there = made
            await measured(made)
            replies = await asyncio.gather(*(here.bend(sort_call(2000, first)) for first in range(4)))
            assert replies == [sorted_reply(2000, first) for first in range(4)]
            assert len(there.worker.computed) in (1, 2)

    run(scenario())


def test_a_node_that_dies_costs_time_and_no_reply() -> None:
    async def scenario() -> None:
        async with nodes(4.0, 1.0, 1.1) as (here, first, second):
            await measured((here, first, second))
            first.worker.slowness = 1e6
            async with asyncio.TaskGroup() as group:
                asking = group.create_task(here.bend(sort_call(3000)))
                await until(lambda: first.session.here.in_flight == 1)
                first.transport.kill()
            assert asking.result() == sorted_reply(3000)
            assert len(second.worker.computed) == 1
            assert [one.place for one in here.session.decisions] == ["n2", "n3"]
            assert await here.bend(sort_call(3000)) == sorted_reply(3000)
            assert [one.place for one in here.session.decisions][2:] == ["n3"], "it is left for a while"

    run(scenario())


def test_a_lost_worker_there_is_not_the_callers_problem() -> None:
    async def scenario() -> None:
        async with nodes(4.0, 1.0) as (here, there):
            await measured((here, there))
            there.worker.is_lost = True
            assert await here.bend(sort_call(3000)) == sorted_reply(3000)
            assert len(here.worker.computed) == 1
            with pytest.raises(WorkerLost, match="n2"):
                await here.session.call(request(sort_call(3)), Place(node=there.id), 10)

    run(scenario())


def test_when_nobody_is_well_all_are_tried() -> None:
    async def scenario() -> None:
        async with nodes(4.0, 1.0) as (here, there):
            await measured((here, there))
            here.worker.is_lost = there.worker.is_lost = True
            for _ in range(3):
                assert (await here.bend(sort_call(3000))).startswith("(error (lost ")
            assert {one.place for one in list(here.session.decisions)[-2:]} == {"n1", "n2"}
            here.worker.is_lost = False
            assert await here.bend(sort_call(3000)) == sorted_reply(3000)

    run(scenario())


def test_a_node_that_promises_more_than_it_keeps_is_soon_believed_no_more() -> None:
    async def scenario() -> None:
        async with nodes(1.0, 1.0) as (here, liar):
            await measured((here, liar))
            liar.worker.slowness = 30.0
            said = decode_fact(liar.facts[FORMS_FACT], liar.id)
            nothing = [msgspec.structs.replace(row, base_s=0.0, per_work_s=0.0) for row in said.costs]
            lie = encode_fact(msgspec.structs.replace(said, costs=tuple(nothing)))
            for _ in range(12):
                liar.facts[FORMS_FACT] = lie
                assert await here.bend(sort_call(3000)) == sorted_reply(3000)
            places = [one.place for one in here.session.decisions]
            assert places[0] == "n2"
            assert places[-4:] == ["n1"] * 4

    run(scenario())


def test_a_client_asks_members() -> None:
    async def scenario() -> None:
        async with nodes(9.0, 1.0, role=Role.CLIENT) as (client, member):
            await measured((client, member))
            assert await client.bend(sort_call(3000)) == sorted_reply(3000)
            assert len(member.worker.computed) == 1

    run(scenario())


def test_a_place_is_found_by_name_and_by_id() -> None:
    async def scenario() -> None:
        async with nodes(1.0, 1.0) as (here, there):
            assert here.session.find("n2") == Place(node=there.id)
            assert here.session.find("n1").is_here
            assert here.session.find("here").is_here
            with pytest.raises(NotFound, match="n7"):
                here.session.find("n7")

    run(scenario())


def test_many_calls_spread_by_speed_and_come_back_in_order() -> None:
    async def scenario() -> None:
        async with nodes(1.0, 0.51, 1.84) as made:
            await measured(made)
            loop = asyncio.get_running_loop()
            began = loop.time()
            sizes = [3000, 1000, 2500, 500, 2000, 1500, 800, 2200, 1700, 1200, 900, 2700]
            reply = await made[0].bend(" ".join(sort_call(size, number) for number, size in enumerate(sizes)))
            spent = loop.time() - began
            wanted = " ".join(sorted_reply(size, number) for number, size in enumerate(sizes))
            assert reply == f"(ok ({wanted}))"
            shares = [len(node.worker.computed) for node in made]
            assert sum(shares) == len(sizes)
            assert shares[1] > shares[0] >= shares[2] > 0
            alone = 0.51 * sum(BASE_S + PER_WORK_S * size for size in sizes)
            assert spent < 0.75 * alone

    run(scenario())


def test_a_fan_out_loses_no_call_when_a_node_dies_and_one_that_fails_takes_no_other_with_it() -> None:
    async def scenario() -> None:
        async with nodes(1.0, 0.5, 1.0) as made:
            here, dying, _ = made
            await measured(made)
            calls = [sort_call(3000, first) for first in range(9)]
            calls[4:4] = ["(cuda-radix-sort '(x))", "(no-such-form 1)"]
            async with asyncio.TaskGroup() as group:
                asking = group.create_task(here.bend(" ".join(calls)))
                await until(lambda: len(dying.worker.computed) >= 2)
                dying.transport.kill()
            wanted = [sorted_reply(3000, first) for first in range(9)]
            error = '(error (argument "expected integers from 0 to 2^64-1, got x"))'
            wanted[4:4] = [error, "(error (unknown-op no-such-form))"]
            assert asking.result() == f"(ok ({' '.join(wanted)}))"

    run(scenario())
