"""docs/bend.md says what the doors do: its transcript, its programs and its tables are tried on real ones."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path

import aiohttp
import pytest

from forms.blob_frame import BLOB, GET, PUT, STORED
from forms.catalogue import shipped
from forms.errors import Kind
from forms.live.bignum_call import Operation
from forms.request import BEND
from meshd.cli.blob import app as blob_commands
from meshd.config import Config
from tests.forms.doors import Doors, doors

pytestmark = pytest.mark.live

PAGE = (Path(__file__).parents[2] / "docs" / "bend.md").read_text("utf-8")
DEADLINE_S = 60.0


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def rows(first: str) -> list[list[str]]:
    """The cells of the table whose first heading is that."""
    lines = PAGE.partition(f"| {first} |")[2].splitlines()[2:]
    end = next(number for number, line in enumerate(lines) if not line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[:end]]


@asynccontextmanager
async def at_the_pages_ports(text: str) -> AsyncIterator[tuple[Doors, str]]:
    """Doors, and a program of the page that goes to them."""
    async with doors() as opened:
        here = text.replace("http://127.0.0.1:8321", opened.http).replace("8320", str(opened.wire_port))
        yield opened, here


async def run(*command: str, path: str = "") -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env=os.environ | ({"PATH": path} if path else {})
    )
    async with asyncio.timeout(DEADLINE_S):
        out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def test_the_transcript_is_what_the_wire_door_says() -> None:
    lines = [line for block in blocks("text") for line in block.splitlines()]
    pairs = list(zip(lines[0::2], lines[1::2], strict=True))
    assert len(pairs) >= 9
    async with doors() as opened:
        client = await opened.connect()
        for sent, said in pairs:
            assert sent.startswith("> ") and said.startswith("< ")
            assert await client.ask(sent[2:]) == said[2:], sent


async def test_the_python_program_prints_the_digests() -> None:
    (program,) = blocks("python")
    async with at_the_pages_ports(program) as (_, here):
        out = await run(sys.executable, "-c", here)
    import hashlib

    assert out.strip() == str([hashlib.shake_256(row).hexdigest(32) for row in (b"one", b"two!")])


@pytest.mark.skipif(shutil.which("node") is None, reason="runs the page's program for browsers in node")
async def test_the_program_for_a_page_prints_the_answer() -> None:
    (program,) = blocks("js")
    async with at_the_pages_ports(program) as (_, here):
        assert (await run("node", "--input-type=module", "-e", here)).strip() == "(ok (1 2 3))"


NC = """#!{python}
import socket, sys
with socket.create_connection((sys.argv[2], int(sys.argv[3]))) as door:
    door.sendall(sys.stdin.buffer.read())
    door.shutdown(socket.SHUT_WR)
    while data := door.recv(4096):
        sys.stdout.buffer.write(data)
"""


@pytest.mark.skipif(shutil.which("curl") is None, reason="runs the page's shell commands")
async def test_the_shell_commands_print_the_answers(tmp_path: Path) -> None:
    if shutil.which("nc") is None:
        (tmp_path / "nc").write_text(NC.format(python=sys.executable))
        (tmp_path / "nc").chmod(0o755)
    commands = blocks("sh")[0].splitlines()
    async with at_the_pages_ports("\n".join(commands)) as (_, here):
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        assert await run("sh", "-c", here, path=path) == "(ok pong)\n(ok (1 2 3))\n"


def test_the_table_of_errors_is_ours() -> None:
    said = {int(code): words for code, words, _ in rows("code")}
    assert said.keys() == {kind.value for kind in Kind}
    for kind in Kind:
        assert f"`{kind.word}`" in said[kind.value]


async def test_bend_before_a_frame_is_answered_as_the_frame_is() -> None:
    assert rows("call")[5][1].startswith(f"`{BEND.decode()}`")
    sort = struct.pack("<4sIQ2Q", b"BSRT", 0, 2, 7, 3)
    async with doors() as opened:
        client = await opened.connect()
        await client.send(BEND + sort + sort)
        assert await client.exactly(28) == await client.exactly(28) == struct.pack("<4sQ2Q", b"BSRR", 2, 3, 7)


def test_the_table_of_frames_has_every_magic() -> None:
    said = {call: (request, reply) for call, request, reply in rows("call")}
    for form in shipped():
        request, reply = said[f"`{form.name}`"]
        assert request.startswith(f"`{form.magic.decode()}`") and reply.startswith(f"`{form.reply_magic.decode()}`")
    for (request, reply), (asked, answered) in zip(
        (said["put a blob"], said["get a blob"]), ((PUT, STORED), (GET, BLOB)), strict=True
    ):
        assert request.startswith(f"`{asked.decode()}`") and reply.startswith(f"`{answered.decode()}`")
    for operation in Operation:
        assert f"{operation.value} {operation.word}" in PAGE


STATUSES: dict[int, list[tuple[str, str, dict[str, str], bytes]]] = {
    200: [("POST", "/", {}, b"(ping)"), ("POST", "/", {}, b"(nothing)")],
    400: [("POST", "/", {}, b"(ping"), ("POST", "/", {}, b"ping")],
    401: [("POST", "/", {"authorization": ""}, b"(ping)")],
    403: [("POST", "/", {"origin": "https://a.example"}, b"(ping)"), ("POST", "/", {"host": "a.example"}, b"(ping)")],
    404: [("POST", "/other", {}, b"(ping)")],
    405: [("GET", "/", {}, b"")],
    415: [("POST", "/", {"content-type": "application/json"}, b"(ping)")],
    413: [("POST", "/", {}, b'(echo "' + b"x" * 200 + b'")')],
}


async def test_the_table_of_statuses_is_what_the_http_door_answers() -> None:
    said = {int(status) for statuses, _ in rows("status") for status in statuses.split(", ")}
    assert said == STATUSES.keys() | {408, 503}, "those are in tests/forms/test_connection.py and test_held.py"
    async with doors(keys=("k",), limit_bytes=100) as opened, aiohttp.ClientSession() as session:
        for status, requests in STATUSES.items():
            for method, path, headers, body in requests:
                sent = {"content-type": "text/plain", "authorization": "Bearer k"} | headers
                async with session.request(method, opened.http + path, data=body, headers=sent) as got:
                    assert got.status == status, (status, method, path, headers)


def test_every_option_and_command_that_is_named_exists() -> None:
    options = set(re.findall(r"`--([a-z-]+)", PAGE)) - {"out", "on", "in"}  # of commands
    assert options
    assert {name.replace("-", "_") for name in options} <= {field.name for field in fields(Config)}
    commands = {
        command.name or command.callback.__name__ for command in blob_commands.registered_commands if command.callback
    }
    assert set(re.findall(r"meshd blob ([a-z]+)", PAGE)) == commands
