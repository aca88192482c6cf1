"""Moves the three messages of `transport.admission` over a connection's greeting, within one deadline.

A refusal is said to the other end before the connection closes, so that its user learns why.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

from transport.admission import Accepted, Admitted, ClientAdmission, ServerAdmission, Site, refusal_message
from transport.errors import ProtocolError, RefusalCode, Refused, TimedOut
from transport.identity import short
from transport.interface import NodeId
from transport.invite import Invite
from transport.quic.connection import QuicPeerConnection

HANDSHAKE_S = 5.0
"""TLS and admission together."""

REFUSAL_LINGER_S = 1.0
ASKER_LINGER_S = 0.2
"""Shorter: the other end only counts, while somebody waits here for the reason."""

REFUSED_CODE = 0x10

Saver = Callable[[bytes], Awaitable[None]]
"""Makes sure that the use of a token (its id) outlives this process."""


async def admit_stranger(connection: QuicPeerConnection, site: Site, save: Saver) -> Accepted:
    """Run the end that was dialled, up to and with its last message. Raises Refused, Unreachable, TimedOut.

    The caller has to let the peer in at once: the peer may use the connection from here on.
    """
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            return await _judge(connection, site, save)
    except TimeoutError as error:
        connection.close("no admission in time", REFUSED_CODE)
        raise TimedOut(f"{connection.address} began a handshake and did not finish it in time") from error
    except ProtocolError as error:
        connection.close(str(error), REFUSED_CODE)
        raise Refused(RefusalCode.MALFORMED, str(error)) from error
    except Refused as refused:
        await _say_no(connection, refused, REFUSAL_LINGER_S)
        raise


async def _judge(connection: QuicPeerConnection, site: Site, save: Saver) -> Accepted:
    binding = await connection.secured
    greeting = connection.greeting
    admission = ServerAdmission(site, binding, os.urandom)
    greeting.send(admission.start())
    accepted = admission.receive(await greeting.receive(), time.time())
    if accepted.redeemed is not None:
        await save(accepted.redeemed)
    greeting.send(accepted.reply, end=True)
    return accepted


async def ask_admission(
    connection: QuicPeerConnection, site: Site, invite: Invite | None, expected: NodeId | None, deadline: float
) -> Admitted:
    """Run the end that dialled, by `deadline` (loop time). Raises Refused, Unreachable, TimedOut.

    On any failure, cancellation included, the connection is closed.
    """
    try:
        async with asyncio.timeout_at(deadline):
            return await _ask(connection, site, invite, expected)
    except TimeoutError as error:
        raise TimedOut(f"{_whom(connection, expected)} did not finish the handshake in time") from error
    except ProtocolError as error:
        raise Refused(RefusalCode.MALFORMED, f"{_whom(connection, expected)}: {error}") from error
    finally:
        if not connection.greeting.is_finished:
            connection.close("not admitted", REFUSED_CODE)


async def _ask(connection: QuicPeerConnection, site: Site, invite: Invite | None, expected: NodeId | None) -> Admitted:
    binding = await connection.secured
    greeting = connection.greeting
    admission = ClientAdmission(site, binding, os.urandom, invite, expected)
    try:
        answer = admission.receive(await greeting.receive(), time.time())
    except Refused as refused:
        await _say_no(connection, refused, ASKER_LINGER_S)  # so that they can count who came to the wrong door
        raise
    assert isinstance(answer, bytes)
    greeting.send(answer)
    admitted = admission.receive(await greeting.receive(), time.time())
    assert isinstance(admitted, Admitted)
    greeting.finish()
    return admitted


async def _say_no(connection: QuicPeerConnection, refused: Refused, linger_s: float) -> None:
    """Send the refusal and let the peer hang up first, within `linger_s`: closing at once could overtake it."""
    connection.greeting.send(refusal_message(refused), end=True)
    try:
        async with asyncio.timeout(linger_s):
            await connection.ended.wait()
    except TimeoutError:
        connection.close(f"refused: {refused.code.value}", REFUSED_CODE)


def _whom(connection: QuicPeerConnection, expected: NodeId | None) -> str:
    node = f"node {short(expected)} at " if expected is not None else ""
    return f"{node}{connection.address.host}:{connection.address.port}"
