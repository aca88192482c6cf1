"""Pipes in memory and over real TCP keep the same promises; a listener makes tunnels of real connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.transport.tunnels import memory_pair, write_all
from transport import tunnel
from transport.errors import TimedOut, Unreachable
from transport.interface import Address
from transport.memory_pipe import memory_pipes
from transport.pipe import Pipe, SocketPipe, connect

pytestmark = pytest.mark.live

WAIT_S = 60.0


async def socket_pipes() -> tuple[SocketPipe, SocketPipe]:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    one = await connect(Address("127.0.0.1", listening.getsockname()[1]))
    accepted, _ = await asyncio.get_running_loop().sock_accept(listening)
    accepted.setblocking(False)
    listening.close()
    return one, SocketPipe(accepted)


async def in_memory() -> tuple[Pipe, Pipe]:
    return memory_pipes()


@pytest.fixture(params=[in_memory, socket_pipes], ids=["memory", "tcp"])
async def pipes(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Pipe, Pipe]]:
    make: Callable[[], Awaitable[tuple[Pipe, Pipe]]] = request.param
    one, other = await make()
    async with asyncio.timeout(WAIT_S):
        yield one, other
    one.close()
    other.close()


async def test_bytes_pass_both_ways(pipes: tuple[Pipe, Pipe]) -> None:
    one, other = pipes
    assert await one.write(b"ping") == 4
    assert await other.read(3) == b"pin"
    assert await other.read(3) == b"g"
    assert await other.write(b"pong") == 4
    assert await one.read(100) == b"pong"


async def test_finish_is_the_end_of_one_direction_only(pipes: tuple[Pipe, Pipe]) -> None:
    one, other = pipes
    await one.write(b"last")
    await one.finish()
    assert await other.read(100) == b"last"
    assert await other.read(100) == b""
    await other.write(b"answer")
    assert await one.read(100) == b"answer"


async def test_abort_is_a_reset_at_the_other_end(pipes: tuple[Pipe, Pipe]) -> None:
    one, other = pipes
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(asyncio.wait_for(expect_reset(other), WAIT_S))
        await asyncio.sleep(0)
        one.abort()
    assert reading.done()
    with pytest.raises(OSError):
        await other.write(b"x")


async def expect_reset(pipe: Pipe) -> None:
    with pytest.raises(ConnectionResetError):
        await pipe.read(1)


async def test_writer_waits_for_a_reader_that_does_not_read(pipes: tuple[Pipe, Pipe]) -> None:
    one, other = pipes
    piece = bytes(1 << 20)
    written = 0

    async def fill() -> None:
        nonlocal written
        while True:
            count = await one.write(piece)
            assert 0 < count <= len(piece)
            written += count

    async with asyncio.TaskGroup() as group:
        filling = group.create_task(fill())
        before = -1
        while written != before or not written:
            before = written
            await asyncio.sleep(0.1)
        assert written < 64 << 20
        got = 0
        while got < written:
            got += len(await other.read(1 << 20))
        filling.cancel()


async def test_nobody_listening_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(Unreachable, match=f"127.0.0.1:{port}"):
        await connect(Address("127.0.0.1", port))


async def test_connection_that_is_not_answered_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        address = Address("127.0.0.1", listening.getsockname()[1])
        queued = []
        with pytest.raises(TimedOut):
            for _ in range(10):  # until the backlog is full
                queued.append(await connect(address, deadline_s=0.3))
        for pipe in queued:
            pipe.close()


# The listener


async def test_each_accepted_connection_is_a_tunnel_of_its_own() -> None:
    async with memory_pair(delay_s=0.0) as pair, pair.client.listen(pair.to("echo")) as listener:
        apps = [await connect(listener.address) for _ in range(3)]
        for number, app in enumerate(apps):
            await write_all(app, b"%d" % number)
        async with asyncio.timeout(WAIT_S):
            assert [await app.read(1) for app in apps] == [b"0", b"1", b"2"]
        assert listener.tunnels == pair.server.tunnels == 3
        assert {request.lease for request in pair.echo.requests} == {"lease-7"}
        for app in apps:
            app.abort()
        async with asyncio.timeout(WAIT_S):
            while listener.tunnels:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.01)
        assert listener.failures == {"PipeBroken": 3}


async def test_connection_beyond_the_limit_waits_until_another_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "MAX_CONNECTIONS", 1)
    async with memory_pair(delay_s=0.0) as pair, pair.client.listen(pair.to("echo")) as listener:
        first, second = [await connect(listener.address) for _ in range(2)]
        async with asyncio.timeout(WAIT_S):
            await write_all(first, b"1")
            await write_all(second, b"2")
            assert await first.read(1) == b"1"
            assert listener.tunnels == 1 and len(pair.echo.requests) == 1
            await first.finish()
            assert await first.read(1) == b""
            assert await second.read(1) == b"2"
        first.close()
        second.abort()


async def test_error_in_the_block_of_a_listener_leaves_it_as_itself() -> None:
    async with memory_pair(delay_s=0.0) as pair:
        with pytest.raises(KeyError):
            async with pair.client.listen(pair.to("echo")):
                raise KeyError("mine")
