"""Workers that are in no mesh, over the wire protocol: a meshd's own door, and programs that know less of it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from forms.errors import Busy, UnknownOperation, WorkerLost
from forms.foreign import ForeignWorker, ask_foreign, probe_foreign
from forms.places import Place
from forms.request import Request
from tests.forms.doors import doors
from tests.forms.nodes import measured, nodes, request, sort_call, sorted_reply, until
from transport.interface import Address

pytestmark = pytest.mark.live

SORT = struct.pack("<4sIQQQ", b"BSRT", 0, 2, 9, 4)
SORTED = struct.pack("<4sQQQ", b"BSRR", 2, 4, 9)

KEY = 'k"e\\y-17'

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def worker(answer: Answer) -> AsyncIterator[ForeignWorker]:
    """A program on this host that answers connections as it likes."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield at(server.sockets[0].getsockname()[1])


def at(port: int, key: str = "") -> ForeignWorker:
    return ForeignWorker(Address("127.0.0.1", port), key)


def saying(reply: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(reply)
        writer.close()

    return answer


async def test_text_and_frames_go_over_the_wire_door() -> None:
    async with doors() as open_doors:
        there = at(open_doors.wire_port)
        assert await ask_foreign(there, request(sort_call(3)), 0, 60) == b"(ok (1 2 3))\n"
        assert await ask_foreign(there, Request(False, SORT), len(SORTED), 60) == SORTED
        assert (await ask_foreign(there, request("(cuda-radix-sort '(x))"), 0, 60)).startswith(b"(error (argument ")
        bad = struct.pack("<4sI", b"BSCP", 1) + b"\x01" * 96
        assert (await ask_foreign(there, Request(False, bad), 72, 60))[:8] == b"BERR\x04\0\0\0"
        assert await probe_foreign(there) == 22777 << 20


async def test_a_door_with_keys_is_told_its_own_before_the_call() -> None:
    async with doors(keys=(KEY,)) as open_doors:
        there = at(open_doors.wire_port, KEY)
        assert await probe_foreign(there) == 22777 << 20
        assert await ask_foreign(there, request(sort_call(3)), 0, 60) == b"(ok (1 2 3))\n"
        assert await ask_foreign(there, Request(False, SORT), len(SORTED), 60) == SORTED


async def test_a_door_without_keys_takes_one_all_the_same() -> None:
    async with doors() as open_doors:
        assert await ask_foreign(at(open_doors.wire_port, KEY), request(sort_call(3)), 0, 60) == b"(ok (1 2 3))\n"


async def test_a_wrong_key_and_none_make_a_place_lost_and_are_not_the_callers_error() -> None:
    async with doors(keys=(KEY,)) as open_doors:
        with pytest.raises(WorkerLost, match="did not take the key"):
            await probe_foreign(at(open_doors.wire_port, "another"))
        with pytest.raises(WorkerLost, match="did not take the key"):
            await ask_foreign(at(open_doors.wire_port, "another"), request(sort_call(3)), 0, 60)
        for call, length in (request(sort_call(3)), 0), (Request(False, SORT), len(SORTED)):
            with pytest.raises(WorkerLost, match="wants a key: give it in the file of --bend-worker-key-file"):
                await ask_foreign(at(open_doors.wire_port), call, length, 60)
        with pytest.raises(WorkerLost, match="wants a key"):
            await probe_foreign(at(open_doors.wire_port))


async def test_no_message_has_the_key_not_even_of_a_worker_that_echoes_it() -> None:
    async with worker(saying(b'(ok (auth "' + KEY.encode() + b'"))\n')) as there:
        with pytest.raises(WorkerLost) as raised:
            await probe_foreign(ForeignWorker(there.address, KEY))
    assert KEY not in str(raised.value) and KEY not in repr(ForeignWorker(there.address, KEY))


@pytest.mark.parametrize(
    ("reply", "vram"),
    [
        (b"(ok (load-avg 0.42) (vram-free-mb 8) (uptime-ms 1))\n", 8 << 20),
        (b"(error (unknown-op health))\n", 0),
        (b"(ok (load-avg 0.42))\n", 0),
        (b"(ok (vram-free-mb lots))\n", 0),
    ],
)
async def test_health_is_what_is_said_and_a_worker_that_does_not_know_it_is_well(reply: bytes, vram: int) -> None:
    async with worker(saying(reply)) as there:
        assert await probe_foreign(there) == vram


@pytest.mark.parametrize("reply", [b"", b"(error (internal x))\n", b"HTTP/1.1 400\r\n\r\n", b"(ok", b")"])
async def test_anything_else_is_not_well(reply: bytes) -> None:
    async with worker(saying(reply)) as there:
        with pytest.raises(WorkerLost, match=r"127\.0\.0\.1"):
            await probe_foreign(there)
    with pytest.raises(WorkerLost):
        await probe_foreign(there)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b'(error (busy "later"))\n', Busy),
        (b'(error (lost "gone"))\n', WorkerLost),
        (b"(error (unknown-op cuda-radix-sort))\n", UnknownOperation),
        (b"nonsense", WorkerLost),
    ],
)
async def test_what_another_place_may_do_better_is_no_reply(reply: bytes, error: type[Exception]) -> None:
    async with worker(saying(reply)) as there:
        with pytest.raises(error):
            await ask_foreign(there, request(sort_call(3)), 0, 20)


async def test_a_worker_that_falls_silent_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with worker(silent) as there:
        with pytest.raises(WorkerLost, match="no answer in time"):
            await ask_foreign(there, request(sort_call(3)), 0, 0.2)


async def test_a_foreign_worker_is_found_out_about_and_used_once_it_is_faster() -> None:
    async with doors(keys=(KEY,)) as open_doors:
        there = at(open_doors.wire_port, KEY)
        async with nodes(0.3, foreign=[there]) as (here,):
            await measured([here])
            place = Place(address=there.address)
            assert await here.bend(sort_call(9000)) == sorted_reply(9000)
            await until(lambda: here.session.outlook.knows_cost(place, "cuda-radix-sort", is_text=True))
            await until(lambda: here.session.is_idle)
            before = here.worker.begun
            assert await here.bend(sort_call(9000)) == sorted_reply(9000)
            assert here.worker.begun == before
            assert here.session.decisions[-1].place == f"127.0.0.1:{open_doors.wire_port}"
            assert here.session.find(f"127.0.0.1:{open_doors.wire_port}") == place


async def test_a_frame_that_may_run_anywhere_says_so_on_the_wire_door() -> None:
    async with doors() as open_doors:
        client = await open_doors.connect()
        await client.send(b"BEND" + SORT + b"(ping)" + SORT)
        assert await client.exactly(len(SORTED)) == SORTED
        assert await client.line() == b"(ok pong)\n"
        assert await client.exactly(len(SORTED)) == SORTED
        await client.send(b"BENDBENDxxxx")
        assert (await client.exactly(8)) == b"BERR\x05\0\0\0"
