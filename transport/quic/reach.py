"""Finds the address that answers: dials several, a little apart, and keeps the first that completes TLS.

A dead address costs its turn (`STAGGER_S`), not its time-out.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable, Collection, Iterable
from typing import cast

from transport.address import format_address
from transport.errors import TimedOut, Unreachable
from transport.interface import Address
from transport.quic.connection import QuicPeerConnection
from transport.quic.udp import SocketAddress

STAGGER_S = 0.25

AGAIN_S = 1.0
"""A handshake whose first packet was lost sends it again after 0.2, 0.6, 1.4 and 3 s (RFC 9002 §6.2). With a new one
every second, something leaves at least every 0.4 s, so a way that opens again is found at once."""

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


async def first_answering(
    dial: Dial, targets: list[SocketAddress], deadline: float, again_s: float | None = None
) -> QuicPeerConnection:
    """The first connection to complete TLS by `deadline` (loop time); the others are closed.

    again_s: after how long to dial all of them anew, beside the last handshake with each; None for never.
    Raises Unreachable when every target has failed, TimedOut when none has answered.
    """
    attempts: dict[asyncio.Future[bytes], QuicPeerConnection] = {}
    try:
        return await _race(dial, targets, deadline, again_s or math.inf, attempts)
    finally:
        for attempt in attempts.values():
            attempt.abandon("another address answered first")


async def _race(
    dial: Dial,
    targets: list[SocketAddress],
    deadline: float,
    again_s: float,
    attempts: dict[asyncio.Future[bytes], QuicPeerConnection],
) -> QuicPeerConnection:
    loop = asyncio.get_running_loop()
    failures: list[str] = []
    waiting = list(targets)
    again_at = loop.time() + again_s
    while waiting or attempts or again_at < deadline:
        if not waiting and loop.time() >= again_at:
            waiting, again_at = list(targets), loop.time() + again_s
            _abandon(attempts, len(attempts) - len(targets))
        if waiting:
            connection = dial(waiting.pop(0))
            attempts[connection.secured] = connection
        wake_at = min(deadline, loop.time() + STAGGER_S if waiting else again_at)
        for future in await _done(attempts, wake_at):
            connection = attempts.pop(future)
            if future.exception() is None:
                return connection
            failures.append(f"{format_address(connection.address)}: {future.exception()}")
        if loop.time() >= deadline:
            break
    silent = dict.fromkeys(format_address(attempt.address) for attempt in attempts.values())
    if silent:
        raise TimedOut(f"no answer from {', '.join(silent)}: is meshd running there, and does UDP get through?")
    raise Unreachable("; ".join(dict.fromkeys(failures)) or "no address to try")


def _abandon(attempts: dict[asyncio.Future[bytes], QuicPeerConnection], count: int) -> None:
    """Give up the `count` oldest: when the way opens again, each that is under way costs both ends a handshake."""
    for future in list(attempts)[: max(0, count)]:
        attempts.pop(future).abandon("dialled anew")


async def _done(attempts: Collection[asyncio.Future[bytes]], wake_at: float) -> set[asyncio.Future[bytes]]:
    """Those that have ended, waiting for the first of them until `wake_at`."""
    patience_s = max(0.0, wake_at - asyncio.get_running_loop().time())
    if not attempts:
        await asyncio.sleep(patience_s)
        return set()
    done, _ = await asyncio.wait(attempts, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
    return done
