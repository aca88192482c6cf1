"""One-time tickets: what ties a TCP connection that comes in to the QUIC connection that vouches for it.

A ticket is good once, for ten seconds, for the node it was given to, and goes when its connection does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from transport.errors import RefusalCode, Refused
from transport.identity import RandomBytes, short
from transport.interface import NodeId

TICKET_BYTES = 32
LIFETIME_S = 10.0
MAX_PER_HOLDER = 2
MAX_TICKETS = 128

Holder = TypeVar("Holder")


@dataclass(frozen=True, slots=True)
class _Issued(Generic[Holder]):
    holder: Holder
    node: NodeId
    host: str
    certificate: bytes
    expires: float


class TicketBook(Generic[Holder]):
    """The tickets that are out. A holder is a connection; times are on one monotonic clock."""

    def __init__(self, random_bytes: RandomBytes) -> None:
        self._random_bytes = random_bytes
        self._issued: dict[bytes, _Issued[Holder]] = {}

    def __len__(self) -> int:
        return len(self._issued)

    def issue(self, holder: Holder, node: NodeId, host: str, certificate: bytes, now: float) -> bytes:
        """A new ticket for `node`, which will come from `host` and show `certificate` (DER).

        A holder's oldest goes when it asks for too many. Raises Refused when all holders together have.
        """
        self._expire(now)
        own = [ticket for ticket, issued in self._issued.items() if issued.holder is holder]
        for ticket in own[: len(own) + 1 - MAX_PER_HOLDER]:
            del self._issued[ticket]
        if len(self._issued) >= MAX_TICKETS:
            raise Refused(RefusalCode.BUSY, f"{MAX_TICKETS} tickets for bulk lanes are out already")
        ticket = self._random_bytes(TICKET_BYTES)
        self._issued[ticket] = _Issued(holder, node, host, certificate, now + LIFETIME_S)
        return ticket

    def expected_from(self, host: str, now: float) -> list[bytes]:
        """The certificates that somebody who comes from `host` now may show."""
        self._expire(now)
        return [issued.certificate for issued in self._issued.values() if issued.host == host]

    def redeem(self, ticket: bytes, node: NodeId, now: float) -> Holder:
        """Whose ticket this is, shown by `node`, which has proved that. Raises Refused; a wrong node spends nothing."""
        self._expire(now)
        issued = self._issued.get(ticket)
        if issued is None:
            raise Refused(RefusalCode.TOKEN_UNKNOWN, f"node {short(node)} shows no ticket that is out, or not any more")
        if issued.node != node:
            raise Refused(RefusalCode.BAD_PROOF, f"node {short(node)} shows a ticket of node {short(issued.node)}")
        del self._issued[ticket]
        return issued.holder

    def withdraw(self, holder: Holder) -> None:
        """Void what `holder` still has."""
        for ticket in [ticket for ticket, issued in self._issued.items() if issued.holder is holder]:
            del self._issued[ticket]

    def _expire(self, now: float) -> None:
        for ticket in [ticket for ticket, issued in self._issued.items() if issued.expires <= now]:
            del self._issued[ticket]
