"""Finds the address that answers: dials several, a little apart, and keeps the first that completes TLS.

A dead address costs its turn (`STAGGER_S`), not its time-out.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from typing import cast

from transport.address import format_address
from transport.errors import TimedOut, Unreachable
from transport.interface import Address
from transport.quic.connection import QuicPeerConnection
from transport.quic.udp import SocketAddress

STAGGER_S = 0.25

Dial = Callable[[SocketAddress], QuicPeerConnection]


async def socket_addresses(addresses: Iterable[Address], family: int) -> list[SocketAddress]:
    """Resolve names, in order and once each, as a socket of `family` spells them. Unknown names are left out."""
    loop = asyncio.get_running_loop()
    flags = socket.AI_V4MAPPED | socket.AI_ALL if family == socket.AF_INET6 else 0
    found: dict[SocketAddress, None] = {}
    for address in addresses:
        try:
            entries = await loop.getaddrinfo(
                address.host, address.port, family=family, type=socket.SOCK_DGRAM, flags=flags
            )
        except OSError:
            continue  # another of its addresses may do; when none does, the caller says so
        for entry in entries:
            found[cast(SocketAddress, entry[4])] = None
    return list(found)


async def first_answering(dial: Dial, targets: list[SocketAddress], deadline: float) -> QuicPeerConnection:
    """The first connection to complete TLS by `deadline` (loop time); the others are closed.

    Raises Unreachable when every target has failed, TimedOut when none has answered.
    """
    attempts: dict[asyncio.Future[bytes], QuicPeerConnection] = {}
    try:
        return await _race(dial, list(targets), deadline, attempts)
    finally:
        for attempt in attempts.values():
            attempt.close("another address answered first")


async def _race(
    dial: Dial, waiting: list[SocketAddress], deadline: float, attempts: dict[asyncio.Future[bytes], QuicPeerConnection]
) -> QuicPeerConnection:
    loop = asyncio.get_running_loop()
    failures: list[str] = []
    while waiting or attempts:
        if waiting:
            connection = dial(waiting.pop(0))
            attempts[connection.secured] = connection
        time_left_s = deadline - loop.time()
        patience_s = min(STAGGER_S, time_left_s) if waiting else time_left_s
        done, _ = await asyncio.wait(attempts, timeout=max(0.0, patience_s), return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            connection = attempts.pop(future)
            if future.exception() is None:
                return connection
            failures.append(f"{format_address(connection.address)}: {future.exception()}")
        if loop.time() >= deadline:
            break
    silent = [format_address(attempt.address) for attempt in attempts.values()]
    if silent:
        raise TimedOut(f"no answer from {', '.join(silent)}: is meshd running there, and does UDP get through?")
    raise Unreachable("; ".join(failures) or "no address to try")
