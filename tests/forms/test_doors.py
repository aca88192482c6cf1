"""Both doors answer the same, mixed on one connection or over HTTP, and what is hostile ends in an error of ours."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
import uvloop

from forms.circuits.generator.generate import Algorithm, Arithmetic, generate
from tests.forms.doors import doors

pytestmark = pytest.mark.live

SHAKE = '(cuda-shake-fanout \'("00" "deadbeef") 32)'
DIGESTS = [hashlib.shake_256(bytes.fromhex(one)).hexdigest(32) for one in ("00", "deadbeef")]
REPLY = f'(ok ("{DIGESTS[0]}" "{DIGESTS[1]}"))'


def frame(*inputs: bytes, out_bytes: int = 32) -> bytes:
    items = b"".join(struct.pack("<I", len(one)) + one for one in inputs)
    return struct.pack("<4sIII", b"BSHK", out_bytes, len(inputs), 0xFFFFFFFF) + items


def reply(*inputs: bytes, out_bytes: int = 32) -> bytes:
    digests = b"".join(hashlib.shake_256(one).digest(out_bytes) for one in inputs)
    return struct.pack("<4sII", b"BSHR", len(inputs), out_bytes) + digests


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(ping)", "(ok pong)"),
        ('(echo (a \'b "c" 1.5))', '(ok (a (quote b) "c" 1.5))'),
        ("(health)", "(ok (load-avg 0.42) (vram-free-mb 22777) (uptime-ms 1780752288371))"),
        ("(no-such-thing 1)", "(error (unknown-op no-such-thing))"),
        ("(bend (no-such-thing 1))", "(error (unknown-op no-such-thing))"),
        (SHAKE, REPLY),
        (f"(bend {SHAKE})", REPLY),
        ("(cuda-radix-sort '(3 1 2))", "(ok (1 2 3))"),
        ("(cuda-radix-sort '(3 1 x))", '(error (argument "expected integers from 0 to 2^64-1, got x"))'),
        ("(1 2)", '(error (syntax "expected a call such as (ping): a list that begins with a name"))'),
    ],
)
async def test_both_doors_say_the_same(text: str, said: str) -> None:
    async with doors() as open_doors:
        client = await open_doors.connect()
        assert await client.ask(text) == said
        assert await client.ask("(ping)") == "(ok pong)"
        plain = {"content-type": "text/plain"}
        async with (
            aiohttp.ClientSession(headers=plain) as session,
            session.post(open_doors.http, data=text.encode()) as got,
        ):
            assert (got.status, (await got.text()).strip()) == (200, said)


async def test_text_and_frames_mix_and_replies_keep_the_order() -> None:
    async with doors() as open_doors:
        client = await open_doors.connect()
        await client.send(b" (ping)\n" + frame(b"a", b"bc") + SHAKE.encode() + frame() + b"(echo 1)")
        assert await client.line() == b"(ok pong)\n"
        assert await client.exactly(12 + 64) == reply(b"a", b"bc")
        assert await client.line() == REPLY.encode() + b"\n"
        assert await client.exactly(12) == reply()
        assert await client.line() == b"(ok 1)\n"


async def test_requests_may_come_byte_by_byte_and_a_half_closed_client_gets_its_answer() -> None:
    async with doors() as open_doors:
        client = await open_doors.connect()
        for byte in b'(echo ")")' + frame(b"xy"):
            await client.send(bytes([byte]))
        client.writer.write_eof()
        assert await client.rest() == b'(ok ")")\n' + reply(b"xy")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"(error (syntax "),
        (b"(ping", b'(error (syntax "the connection ended within a datum"))'),
        (b")", b"(error (syntax "),
        (b"(" * 70, b'(error (limit "lists more than 64 deep"))'),
        (b"BXXX" + bytes(64), b"BERR\x05\x00\x00\x00"),
        (b"BSHK" + struct.pack("<III", 0, 1, 1), b"BERR\x04\x00\x00\x00"),
        (b"BSHK" + struct.pack("<III", 32, 0xFFFFFFFF, 0xFFFFFFFE), b"BERR\x02\x00\x00\x00"),
        (b"BSRT" + struct.pack("<IQ", 0, 1 << 60), b"BERR\x02\x00\x00\x00"),
        (b"BSHK\x01", b"BERR\x01\x00\x00\x00"),
    ],
)
async def test_what_cannot_be_framed_is_one_error_and_the_end(sent: bytes, said: bytes) -> None:
    async with doors() as open_doors:
        client = await open_doors.connect()
        await client.send(sent)
        client.writer.write_eof()
        answer = await client.rest()
        assert answer.startswith(said), answer
        other = await open_doors.connect()
        assert await other.ask("(ping)") == "(ok pong)"


async def test_an_error_in_a_frame_that_came_whole_leaves_the_connection_open() -> None:
    async with doors() as open_doors:
        client = await open_doors.connect()
        off_curve = struct.pack("<4sI", b"BSCP", 1) + b"\x01" * 96
        await client.send(off_curve + b"(ping)")
        head = await client.exactly(12)
        magic, code, length = struct.unpack("<4sII", head)
        assert (magic, code) == (b"BERR", 4)
        assert b"curve" in await client.exactly(length)
        assert await client.line() == b"(ok pong)\n"


async def test_one_slow_client_delays_no_other() -> None:
    async with doors() as open_doors:
        slow = await open_doors.connect()
        await slow.send(b"(echo ")
        assert await (await open_doors.connect()).ask(SHAKE) == REPLY
        await slow.send(b"1)")
        assert await slow.line() == b"(ok 1)\n"


async def test_keys_come_first_on_either_door() -> None:
    async with doors(keys=("right", "other")) as open_doors:
        for sent in (b"(ping)", b'(auth "wrong")', frame(b"a"), b"(" + b"x" * 10_000):
            client = await open_doors.connect()
            await client.send(sent)
            assert b"auth" in await client.rest() or sent.startswith(b"(x")
        client = await open_doors.connect()
        assert await client.ask('(auth "other")') == "(ok auth)"
        assert await client.ask("(ping)") == "(ok pong)"
        async with aiohttp.ClientSession() as session:
            for given, status in ((None, 401), ("Bearer wrong", 401), ("Bearer right", 200)):
                headers = {"content-type": "text/plain"} | ({"authorization": given} if given else {})
                async with session.post(open_doors.http, data=b"(ping)", headers=headers) as got:
                    assert got.status == status


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("POST", "/", {}, b"(ping)", 200),
        ("POST", "/", {"content-type": "application/json"}, b"(ping)", 415),
        ("POST", "/x", {}, b"(ping)", 404),
        ("GET", "/", {}, b"", 405),
        ("POST", "/", {}, b"(ping", 400),
        ("POST", "/", {}, b"(ping) (ping)", 400),
        ("POST", "/", {}, b"", 400),
        ("POST", "/", {"origin": "http://localhost:3000"}, b"(ping)", 200),
        ("POST", "/", {"origin": "https://[::1]:3000"}, b"(ping)", 200),
        ("POST", "/", {"origin": "https://play.example"}, b"(ping)", 200),
        ("POST", "/", {"origin": "https://evil.example"}, b"(ping)", 403),
        ("POST", "/", {"origin": "http://localhost.evil.example"}, b"(ping)", 403),
        ("POST", "/", {"origin": "null"}, b"(ping)", 403),
        ("POST", "/", {"host": "evil.example"}, b"(ping)", 403),
        ("OPTIONS", "/", {"origin": "http://localhost"}, b"", 204),
        ("OPTIONS", "/", {"origin": "https://evil.example"}, b"", 403),
    ],
)
async def test_http(method: str, path: str, headers: dict[str, str], body: bytes, status: int) -> None:
    async with doors(origins=("https://play.example",)) as open_doors, aiohttp.ClientSession() as session:
        sent = {"content-type": "text/plain"} | headers
        async with session.request(method, open_doors.http + path, data=body, headers=sent) as got:
            assert got.status == status, await got.text()
            assert got.headers["vary"] == "Origin"
            allowed = got.headers.get("access-control-allow-origin")
            assert allowed == (headers.get("origin") if status in (200, 204) else None)


async def test_a_page_elsewhere_may_ask_this_network_once_it_is_named() -> None:
    async with doors(origins=("https://play.example",), keys=("k",)) as open_doors, aiohttp.ClientSession() as session:
        headers = {
            "origin": "https://play.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization",
            "access-control-request-private-network": "true",
        }
        async with session.options(open_doors.http, headers=headers) as got:
            assert got.status == 204
            assert got.headers["access-control-allow-private-network"] == "true"
            assert "authorization" in got.headers["access-control-allow-headers"]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - it has nothing that one could wait for
            await asyncio.sleep(0.01)


async def test_a_worker_that_dies_takes_only_its_call_with_it() -> None:
    async with doors() as open_doors:
        client = await open_doors.connect()
        assert await client.ask(SHAKE) == REPLY
        long = '(cuda-bignum-cgbn mod-pow 4096 "' + "f" * 1024 + "\" '(" + ('"' + "e" * 1024 + '" ') * 2000 + ") '("
        await client.send(long.encode() + b'"' + b'" "'.join([b"d" * 1024] * 2000) + b'"))')
        await until(lambda: open_doors.worker.is_computing)
        waiting = await open_doors.connect()
        await waiting.send(SHAKE.encode())
        await until(lambda: open_doors.worker.waiting > 0)
        pid = open_doors.worker.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert (await client.line()).startswith(b"(error (lost ")
        assert await waiting.line() == REPLY.encode() + b"\n"
        assert open_doors.worker.pid != pid


async def test_a_reply_beyond_the_limit_is_refused_in_text_too() -> None:
    async with doors(limit_bytes=1 << 16) as open_doors:
        client = await open_doors.connect()
        assert "limit" in await client.ask(f"(cuda-shake-fanout '({chr(34)}00{chr(34)} {chr(34)}01{chr(34)}) 65536)")
        assert await client.ask("(ping)") == "(ok pong)"


async def test_circuits_are_called_in_text_and_lie_in_the_blob_folder(tmp_path: Path) -> None:
    (tmp_path / "adder").write_bytes(generate(Arithmetic.ADDER, 5, Algorithm()))
    async with doors(folder=tmp_path) as open_doors:
        client = await open_doors.connect()
        said = await client.ask('(cuda-sim-ops-bin "adder" 1 (check adder))')
        assert said.startswith("(ok (toffoli "), said
        assert said.endswith("(clean #t))")
        axis = await client.ask('(cuda-sim-axis \'("adder" "adder") 64 (check adder))')
        assert axis.count("(clean #t)") == 2, axis
        assert (await client.ask('(cuda-sim-ops-bin "../x" 1)')).startswith("(error (not-found ")


def reset_after_the_reply(port: int, sent: bytes) -> None:
    """As soon as the door has begun to reply, and is about to say that it has nothing to add."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as rude:
        rude.sendall(sent)
        rude.recv(1)
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def reset_often(sent: bytes) -> None:
    async with doors() as open_doors:
        for _ in range(200):
            await asyncio.to_thread(reset_after_the_reply, open_doors.wire_port, sent)
        client = await open_doors.connect()
        assert await client.ask("(ping)") == "(ok pong)"


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("sent", [b"X", b"(ping)", b"BXXX"])
def test_a_client_that_resets_after_its_reply_harms_only_itself(
    sent: bytes, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """What the kernel then says of its socket is a ConnectionError to one loop, and a plain OSError to the other."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(reset_often(sent))
