"""All clients of a door together hold no more than it allows; who is within it is served."""

from __future__ import annotations

import asyncio
import struct

import aiohttp
import pytest

from forms.errors import Busy
from forms.held import Held
from tests.forms.doors import doors

pytestmark = pytest.mark.live


def test_what_one_holds_the_others_cannot() -> None:
    held = Held(100)
    one, other = held.share(), held.share()
    one.add(60)
    with pytest.raises(Busy, match="holds 60 bytes"):
        other.add(41)
    other.add(40)
    one.keep(10)
    assert held.held_bytes == 50
    other.add(50)
    one.keep(0)
    other.keep(0)
    assert held.held_bytes == 0


def shake(length: int, out_bytes: int = 8) -> bytes:
    return struct.pack("<4sIII", b"BSHK", out_bytes, 1, length) + bytes(length)


async def test_one_that_would_hold_too_much_is_told_and_the_others_go_on() -> None:
    held = Held(100_000)
    async with doors(held=held) as open_doors:
        first, second = await open_doors.connect(), await open_doors.connect()
        await first.send(shake(60_000)[:50_000])
        async with asyncio.timeout(60):
            while held.held_bytes < 50_000:  # noqa: ASYNC110 - nothing says that it has come
                await asyncio.sleep(0.01)
        await second.send(shake(60_000))
        assert (await second.rest()).startswith(b"BERR\x06\x00\x00\x00")
        await first.send(shake(60_000)[50_000:])
        assert (await first.exactly(12)).startswith(b"BSHR")
        await first.exactly(8)
        third = await open_doors.connect()
        await third.send(shake(60_000))  # what the others held is free
        assert (await third.exactly(12)).startswith(b"BSHR")


async def test_a_reply_that_is_too_much_is_refused_and_the_connection_goes_on() -> None:
    async with doors(held=Held(1000)) as open_doors:
        client = await open_doors.connect()
        await client.send(shake(10, out_bytes=1000) + b"(ping)")
        magic, code, length = struct.unpack("<4sII", await client.exactly(12))
        assert (magic, code) == (b"BERR", 6)
        await client.exactly(length)
        assert await client.line() == b"(ok pong)\n"


async def test_the_http_door_says_503() -> None:
    async with doors(held=Held(1000)) as open_doors, aiohttp.ClientSession() as session:
        for size, status in ((2000, 503), (100, 200), (600, 503), (100, 200)):
            body = f'(echo "{"x" * size}")'.encode()
            headers = {"content-type": "text/plain"}
            async with session.post(open_doors.http, data=body, headers=headers) as got:
                assert got.status == status
                assert ("busy" in await got.text()) == (status == 503)
