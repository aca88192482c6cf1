"""The first words of llama.cpp's RPC protocol, as far as one needs them to learn what answers on a port.

Everything after them is between llama.cpp and itself. Framing: a command byte, a 64-bit length and the request; the
answer is a 64-bit length and its bytes, all little-endian (ggml/src/ggml-rpc/ggml-rpc.cpp).
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass

from transport.interface import Address

DEVICE_MEMORY, HELLO, DEVICE_COUNT = 11, 14, 15
_CAPABILITIES = bytes(24)  # none: plain TCP
_HEAD = struct.Struct("<BQ")
_LENGTH = struct.Struct("<Q")
MAX_ANSWER_BYTES = 256
MAX_DEVICES = 16


class NoRpcServer(Exception):
    """What answers, or does not, is no RPC server that we could use. The message says what came instead."""


@dataclass(frozen=True, slots=True)
class RpcGreeting:
    """version: of the protocol.  device_bytes: each device's whole memory, in the order that clients see."""

    version: tuple[int, int, int]
    device_bytes: tuple[int, ...]


async def greet(address: Address, deadline_s: float) -> RpcGreeting:
    """Say hello to the server at `address` and ask for its devices. Raises NoRpcServer."""
    try:
        async with asyncio.timeout(deadline_s):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            try:
                return await _converse(reader, writer)
            finally:
                writer.close()
    except (OSError, asyncio.IncompleteReadError) as error:
        raise NoRpcServer(f"no RPC server answers on port {address.port}: {error}") from error


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> RpcGreeting:
    async def ask(command: int, request: bytes, answer_bytes: int) -> bytes:
        writer.write(_HEAD.pack(command, len(request)) + request)
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if not answer_bytes <= length <= MAX_ANSWER_BYTES:
            raise NoRpcServer(f"expected an answer of {answer_bytes} bytes to RPC command {command}, got {length}")
        return await reader.readexactly(length)

    major, minor, patch = (await ask(HELLO, _CAPABILITIES, 4 + len(_CAPABILITIES)))[:3]
    (count,) = struct.unpack_from("<I", await ask(DEVICE_COUNT, b"", 4))
    if not 1 <= count <= MAX_DEVICES:
        raise NoRpcServer(f"expected 1 to {MAX_DEVICES} devices, got {count}")
    memories = [await ask(DEVICE_MEMORY, struct.pack("<I", device), 16) for device in range(count)]
    return RpcGreeting((major, minor, patch), tuple(struct.unpack_from("<QQ", memory)[1] for memory in memories))
