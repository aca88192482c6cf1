"""A blocking client of bend's wire door, and the bare TCP server that it is held beside."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

LENGTHS = struct.Struct("<QQ")
PIECE_BYTES = 1 << 20
LOOPBACK = "127.0.0.1"
WIDTH, OUT = 16, 32


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request of so many rows of 16 bytes, and how long the reply will be."""

    data: bytes
    request: bytes
    reply_bytes: int

    @classmethod
    def binary(cls, count: int) -> Exchange:
        """A frame of the SHAKE form."""
        data = os.urandom(WIDTH * count)
        return cls(data, struct.pack("<4sIII", b"BSHK", OUT, count, WIDTH) + data, 12 + OUT * count)

    @classmethod
    def text(cls, count: int) -> Exchange:
        """The same call as text."""
        data = os.urandom(WIDTH * count)
        rows = " ".join(f'"{data[at : at + WIDTH].hex()}"' for at in range(0, len(data), WIDTH))
        request = f"(cuda-shake-fanout '({rows}) {OUT})".encode()
        return cls(data, request, len("(ok ())\n") + (2 * OUT + 3) * count - 1)


class Wire:
    """One connection, one request at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes, reply_bytes: int) -> bytearray:
        """The reply, whose length is known. Raises ConnectionError."""
        self._socket.sendall(request)
        reply = bytearray(reply_bytes)
        view, at = memoryview(reply), 0
        while at < reply_bytes:
            got = self._socket.recv_into(view[at:])
            if not got:
                raise ConnectionError(f"the reply ended after {at} of {reply_bytes} bytes: {bytes(reply[:200])!r}")
            at += got
        return reply

    def echo(self, request: bytes, reply_bytes: int) -> bytearray:
        """As many bytes there and back, from the bare server."""
        return self.ask(LENGTHS.pack(len(request), reply_bytes) + request, reply_bytes)

    def close(self) -> None:
        self._socket.close()


@contextmanager
def bare_server() -> Iterator[Wire]:
    """A connection to a process that does nothing but TCP."""
    with subprocess.Popen([sys.executable, "-m", "bench.forms_wire"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        wire = Wire(LOOPBACK, int(process.stdout.readline()))
        yield wire
        wire.close()


def serve_bare() -> None:
    """Take in as many bytes as are promised and send back as many as are asked for, until the client goes."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        client, _ = listener.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with client, client.makefile("rb", PIECE_BYTES) as reader:
        while head := reader.read(LENGTHS.size):
            request_bytes, reply_bytes = LENGTHS.unpack(head)
            reader.read(request_bytes)
            client.sendall(bytes(reply_bytes))


if __name__ == "__main__":
    serve_bare()
