"""Messages come whole and in order, the other end's closing is told, and nobody can send more than is taken."""

from __future__ import annotations

import asyncio
import socket

import pytest

from forms.message_socket import MOST_WAITING, MessageSocket

pytestmark = pytest.mark.live


def pair() -> tuple[MessageSocket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)
    return MessageSocket(ours, 100), theirs


async def test_messages_come_whole_and_in_order() -> None:
    ours, theirs = pair()
    with theirs:
        for message in (b"one", b"x" * 100, b"three"):
            theirs.send(message)
        assert [await ours.receive() for _ in range(3)] == [b"one", b"x" * 100, b"three"]
        await ours.send(b"back")
        assert theirs.recv(100) == b"back"
        ours.close()


async def test_what_came_before_the_end_is_given_and_then_the_end_every_time() -> None:
    ours, theirs = pair()
    theirs.send(b"last")
    theirs.close()
    assert await ours.receive() == b"last"
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await ours.receive()
    ours.close()


async def test_a_wait_that_is_cancelled_loses_no_message() -> None:
    ours, theirs = pair()
    with theirs:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await ours.receive()
        theirs.send(b"later")
        assert await ours.receive() == b"later"
        ours.close()


async def test_who_sends_more_than_is_taken_has_to_wait() -> None:
    ours, theirs = pair()
    with theirs:
        sent = 0
        with pytest.raises(BlockingIOError):
            while True:
                theirs.send(sent.to_bytes(4, "little"))
                sent += 1
                await asyncio.sleep(0)
        assert sent > MOST_WAITING
        for number in range(sent):
            assert await ours.receive() == number.to_bytes(4, "little")
        ours.close()
