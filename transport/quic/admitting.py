"""Moves the three messages of `transport.admission` over a connection's greeting, within one deadline.

A refusal is said to the other end before the connection closes, so that its user learns why. A joiner whose token
another node made waits while that one is asked (`transport.forwarding`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from transport.admission import (
    Accepted,
    Admitted,
    Asked,
    ClientAdmission,
    Forward,
    ServerAdmission,
    Site,
    refusal_message,
)
from transport.errors import ProtocolError, RefusalCode, Refused, StreamReset, TimedOut, Unreachable
from transport.forwarding import ForwardBudget, ask_issuer, out_of_reach, read_answer
from transport.identity import short
from transport.interface import NodeId
from transport.invite import Invite
from transport.pairing import PairingDesk
from transport.quic.connection import QuicPeerConnection
from transport.quic.local_addresses import is_on_link
from transport.site import takes_no_requests

HANDSHAKE_S = 5.0
"""TLS and admission together."""

REFUSAL_LINGER_S = 1.0
ASKER_LINGER_S = 0.2
"""Shorter: the other end only counts, while somebody waits here for the reason."""

REFUSED_CODE = 0x10

Saver = Callable[[bytes], Awaitable[None]]
"""Makes sure that the use of a token (its id) outlives this process."""

AskIssuer = Callable[[NodeId, bytes], Awaitable[bytes]]
"""Puts a joiner's question to the node that made its token. Raises MeshError without link or answer."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an end that dials wants. invite: to join by.  expected: whom it dials, if known."""

    invite: Invite | None
    expected: NodeId | None


@dataclass(frozen=True, slots=True)
class Doorway:
    """Where one endpoint's strangers and dials are admitted.

    site: what the endpoint brings to handshakes, as of now.  unix_time: the wall clock, for expiry.
    desk: where those wait who ask without a token; None where nobody looks after them.
    """

    site: Callable[[], Site]
    save: Saver
    ask_issuer: AskIssuer
    unix_time: Callable[[], float]
    budget: ForwardBudget
    desk: PairingDesk | None = None

    async def admit_stranger(self, connection: QuicPeerConnection) -> Accepted:
        """Run the end that was dialled, up to and with its last message. Raises Refused, Unreachable, TimedOut.

        The caller has to let the peer in at once: the peer may use the connection from here on.
        """
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                return await self._receive(connection)
        except TimeoutError as error:
            connection.close("no admission in time", REFUSED_CODE)
            raise TimedOut(f"{connection.address} began a handshake and did not finish it in time") from error
        except ProtocolError as error:
            connection.close(str(error), REFUSED_CODE)
            raise Refused(RefusalCode.MALFORMED, str(error)) from error
        except Refused as refused:
            await _say_no(connection, refused, REFUSAL_LINGER_S)
            raise

    async def _receive(self, connection: QuicPeerConnection) -> Accepted:
        binding = await connection.secured
        greeting = connection.greeting
        admission = ServerAdmission(self.site(), binding, os.urandom)
        greeting.send(admission.start())
        accepted = await self._judge(admission, await greeting.receive(), connection.address.host)
        if accepted.redeemed is not None:
            await self.save(accepted.redeemed)
        greeting.send(accepted.reply, end=True)
        return accepted

    async def _judge(self, admission: ServerAdmission, proof: bytes, host: str) -> Accepted:
        admission.revise(self.site())
        match admission.judge(proof, self.unix_time()):
            case Accepted() as accepted:
                return accepted
            case Forward() as forward:
                certificate = await self._certificate_for(forward)
                admission.revise(self.site())
                return admission.complete(forward, certificate, self.unix_time())
            case Asked() as asked:
                if self.desk is None or not is_on_link(host):  # a stranger far away needs a token
                    raise takes_no_requests()
                self.desk.ask(asked, host, self.unix_time())
                return admission.let_in(asked, self.unix_time())

    async def _certificate_for(self, forward: Forward) -> bytes:
        """What the token's issuer gives the joiner. Raises Refused: BUSY, the issuer's words, or ours."""
        self.budget.take(asyncio.get_running_loop().time())
        try:
            answer = await self.ask_issuer(forward.issuer, ask_issuer(forward, self.site()))
        except (Unreachable, StreamReset, ProtocolError) as error:
            raise out_of_reach(forward.issuer) from error
        finally:
            self.budget.give_back()
        return read_answer(answer, forward.issuer)

    async def ask_admission(self, connection: QuicPeerConnection, wanted: Wanted, deadline: float) -> Admitted:
        """Run the end that dialled, by `deadline` (loop time). Raises Refused, Unreachable, TimedOut.

        On any failure, cancellation included, the connection is closed.
        """
        try:
            async with asyncio.timeout_at(deadline):
                return await self._ask(connection, wanted)
        except TimeoutError as error:
            raise TimedOut(f"{_whom(connection, wanted)} did not finish the handshake in time") from error
        except ProtocolError as error:
            raise Refused(RefusalCode.MALFORMED, f"{_whom(connection, wanted)}: {error}") from error
        finally:
            if not connection.greeting.is_finished:
                connection.close("not admitted", REFUSED_CODE)

    async def _ask(self, connection: QuicPeerConnection, wanted: Wanted) -> Admitted:
        binding = await connection.secured
        greeting = connection.greeting
        admission = ClientAdmission(self.site(), binding, os.urandom, wanted.invite, wanted.expected)
        try:
            answer = admission.receive(await greeting.receive(), self.unix_time())
        except Refused as refused:
            await _say_no(connection, refused, ASKER_LINGER_S)  # so that they can count who came to the wrong door
            raise
        assert isinstance(answer, bytes)
        greeting.send(answer)
        admitted = admission.receive(await greeting.receive(), self.unix_time())
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


def _whom(connection: QuicPeerConnection, wanted: Wanted) -> str:
    node = f"node {short(wanted.expected)} at " if wanted.expected is not None else ""
    return f"{node}{connection.address.host}:{connection.address.port}"
