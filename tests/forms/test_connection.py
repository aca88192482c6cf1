"""What becomes of a connection after a request that is refused, late, or too large."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import aiohttp
import pytest

from forms import connection, http_door, wire_door
from forms.datum import Symbol
from forms.reader import read_datum
from tests.forms.doors import doors

pytestmark = pytest.mark.live

CONDEMNED = [
    (struct.pack("<4sIII", b"BSHK", 0, 3, 5), bytes(15), "out_bytes"),
    (struct.pack("<4sIII", b"BSHK", 70_000, 2, 0xFFFFFFFF), struct.pack("<I3sI2s", 3, b"abc", 2, b"de"), "out_bytes"),
    (struct.pack("<4sII", b"BSB3", 0, 1), struct.pack("<I4s", 4, b"abcd"), "out_bytes"),
    (struct.pack("<4sIQ", b"BSRT", 9, 2), bytes(16), "order"),
    (struct.pack("<4sIII", b"BCGB", 99, 64, 1), bytes(24), "operation"),
    (struct.pack("<4sIII", b"BCGB", 0, 72, 1), bytes(27), "bits"),
]


@pytest.mark.parametrize(("head", "body", "why"), CONDEMNED)
async def test_a_call_that_its_head_condemns_is_refused_at_once_and_passed_over(
    head: bytes, body: bytes, why: str
) -> None:
    async with doors() as open_doors:
        client = await open_doors.connect()
        await client.send(head)
        magic, code, length = struct.unpack("<4sII", await client.exactly(12))
        assert (magic, code) == (b"BERR", 4)
        assert why in (await client.exactly(length)).decode()
        for byte in body:
            await client.send(bytes([byte]))
        await client.send(b"(ping)")
        assert await client.line() == b"(ok pong)\n"


async def test_a_condemned_call_without_an_end_within_the_limit_closes() -> None:
    async with doors(limit_bytes=1 << 16) as open_doors:
        client = await open_doors.connect()
        await client.send(struct.pack("<4sIII", b"BSHK", 0, 1 << 20, 5) + b"(ping)")
        assert (await client.rest()).startswith(b"BERR\x02\x00\x00\x00")


async def test_what_falls_silent_in_the_midst_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "UNFINISHED_S", 0.1)
    async with doors() as open_doors:
        for sent in (b"(echo ", b"BSHK\x01", struct.pack("<4sIII", b"BSHK", 32, 1, 100) + b"x"):
            client = await open_doors.connect()
            await client.send(sent)
            assert await client.rest() == b""


async def test_who_says_nothing_is_let_go_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async with doors() as open_doors:
        client = await open_doors.connect()
        assert await client.ask("(ping)") == "(ok pong)"
        monkeypatch.setattr(connection, "IDLE_S", 0.2)  # counts from what is said next
        monkeypatch.setattr(connection, "UNFINISHED_S", 0.05)
        assert await client.ask("(ping)") == "(ok pong)"
        assert await client.rest() == b""


@pytest.mark.parametrize(("name", "limit"), [("connection", 1000), ("http", 1000)])
async def test_text_has_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch, name: str, limit: int) -> None:
    monkeypatch.setattr(connection, "MAX_TEXT_BYTES", limit)
    monkeypatch.setattr(http_door, "MAX_TEXT_BYTES", limit)
    text = f'(echo "{"x" * limit}")'
    async with doors() as open_doors:
        if name == "connection":
            client = await open_doors.connect()
            assert (await client.ask(text)).startswith("(error (limit ")
            return
        async with aiohttp.ClientSession() as session, post(session, open_doors.http, text.encode()) as got:
            assert got.status == 413
            assert (await got.text()).startswith("(error (limit ")


def post(session: aiohttp.ClientSession, url: str, data: Any) -> Any:
    return session.post(url, data=data, headers={"content-type": "text/plain"})


async def test_a_body_that_does_not_come_is_no_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_door, "UNFINISHED_S", 0.1)
    async with doors() as open_doors:
        host, port = open_doors.http.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\n(pin")
        async with asyncio.timeout(60):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        writer.close()


async def test_a_form_that_is_not_there_is_not_searched_for_in_what_follows() -> None:
    async with doors() as open_doors:
        client = await open_doors.connect()
        await client.send(b"BNOT(ping)")
        answer = await client.rest()
        assert answer.startswith(b"BERR\x05\x00\x00\x00")
        assert b"pong" not in answer


async def test_a_reply_that_nobody_reads_ends_the_connection_and_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "UNFINISHED_S", 0.3)
    text = f'(echo "{"x" * (1 << 20)}")'.encode()
    async with doors() as open_doors:
        deaf = await open_doors.connect()
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(60):
                while True:
                    await deaf.send(text)
        assert await (await open_doors.connect()).ask("(ping)") == "(ok pong)"


async def test_one_client_too_many_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_door, "MAX_CONNECTIONS", 1)
    async with doors() as open_doors:
        first = await open_doors.connect()
        assert await first.ask("(ping)") == "(ok pong)"
        assert (await (await open_doors.connect()).rest()).startswith(b'(error (busy "1 connections are open')
        assert await first.ask("(ping)") == "(ok pong)"


async def test_forms_lists_what_can_be_called_and_what_was_surveyed() -> None:
    async with doors() as open_doors:
        listed = read_datum(await (await open_doors.connect()).ask("(forms)"))
    assert isinstance(listed, list)
    assert listed[0] == Symbol("ok")
    entries = {str(entry[0][1]): entry for entry in listed[1]}  # type: ignore[index, union-attr]
    for one in entries.values():
        assert [pair[0] for pair in one] == [Symbol("name"), Symbol("status"), Symbol("frame")]  # type: ignore[index, union-attr]
    assert entries["cuda-shake-fanout"][2][1] == Symbol("BSHK")  # type: ignore[index]
    assert entries["cuda-sim-axis"][2][1] == []  # type: ignore[index]
    assert entries["cuda-ntt-poly"][1][1] == Symbol("surveyed")  # type: ignore[index]
