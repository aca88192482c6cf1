"""Meets a mesh from outside: who is there, and may this node come in? For nodes that have no token.

What may be said is decided in `transport.pairing`; this moves the messages, on a connection that the caller dialled
and closes when it comes to nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from transport.address import format_address
from transport.admission import Admitted
from transport.errors import ProtocolError, RefusalCode, Refused, TimedOut
from transport.pairing import AskingAdmission, SeenMesh, StillWaiting, read_hello
from transport.quic.admitting import REFUSED_CODE
from transport.quic.connection import QuicPeerConnection


async def look(connection: QuicPeerConnection, now: float, deadline: float) -> SeenMesh:
    """Hear who answers, say nothing, and hang up. Raises Refused, Unreachable, TimedOut."""
    with _closing(connection):
        async with asyncio.timeout_at(deadline):
            binding = await connection.secured
            return read_hello(await connection.greeting.receive(), binding, now)


async def ask_to_come_in(
    connection: QuicPeerConnection, admission: AskingAdmission, now: float, deadline: float
) -> Admitted | StillWaiting:
    """Run the end that dialled. Raises Refused, Unreachable, TimedOut; the connection stays open once admitted."""
    greeting = connection.greeting
    with _closing(connection):
        async with asyncio.timeout_at(deadline):
            answer = admission.receive(await greeting.receive(), now)
            assert isinstance(answer, bytes)
            greeting.send(answer)
            try:
                admitted = admission.receive(await greeting.receive(), now)
            except Refused as refused:
                if refused.code is RefusalCode.PAIRING_PENDING:
                    return StillWaiting(admission.code)
                raise
            assert isinstance(admitted, Admitted)
            greeting.finish()
            return admitted


@contextlib.contextmanager
def _closing(connection: QuicPeerConnection) -> Iterator[None]:
    """Close the connection unless its greeting was finished; name the other end in what goes wrong."""
    whom = format_address(connection.address)
    try:
        yield
    except TimeoutError as error:
        raise TimedOut(f"{whom} did not finish the handshake in time") from error
    except ProtocolError as error:
        raise Refused(RefusalCode.MALFORMED, f"{whom}: {error}") from error
    finally:
        if not connection.greeting.is_finished:
            connection.close("only asked", REFUSED_CODE)
