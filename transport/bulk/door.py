"""Makes lanes: dials them, and meets those who dial, on the TCP port of the same number as the QUIC one.

Who dials comes with a ticket that it got over QUIC. Nobody else gets so far as TLS: connections are taken only from
hosts that a ticket was just given to, a few at a time, and no byte is looked at before both keys are proved.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from time import monotonic
from typing import Any, Generic

from transport.bulk.connection import FrameSink, LaneConnection
from transport.bulk.message import Grant, Want
from transport.bulk.pinning import LaneIdentity, certificate_node
from transport.bulk.ticket import TICKET_BYTES, Holder, TicketBook
from transport.errors import MeshError, ProtocolError
from transport.identity import short
from transport.interface import Address, NodeId

logger = logging.getLogger("meshd.transport")

HANDSHAKE_S = 5.0
MAX_HALF_OPEN = 16
GOODBYE_S = 1.0
ACCEPT_AGAIN_S = 0.1

_WELCOME = b"\x01"


class Door(Generic[Holder]):
    """A listening socket, the tickets for it, and the way out.

    entered: gets each connection that showed its ticket, with the ticket's holder; returns who takes its frames, or
    raises MeshError. bind: where the QUIC socket is bound; raises OSError when TCP can have no port there at all.
    """

    def __init__(
        self, identity: LaneIdentity, bind: Address, entered: Callable[[Holder, LaneConnection], FrameSink]
    ) -> None:
        self._identity = identity
        self._entered = entered
        self._tickets: TicketBook[Holder] = TicketBook(os.urandom)
        self._bind = bind
        self._socket = listening_socket(bind)
        self.port: int = self._socket.getsockname()[1]
        self._half_open = 0
        self.strangers = 0
        """Connections that were refused."""

    def close(self) -> None:
        self._socket.close()

    # Tickets

    def grant(self, holder: Holder, node: NodeId, host: str, want: Want) -> Grant:
        """A ticket for `node`, that will come from `host`. Raises ProtocolError, Refused when too many are out."""
        _require_own(want.certificate, node)
        ticket = self._tickets.issue(holder, node, plain_host(host), want.certificate, monotonic())
        return Grant(ticket, self.port, self._identity.certificate)

    def withdraw(self, holder: Holder) -> None:
        """Void the tickets of a connection that has ended."""
        self._tickets.withdraw(holder)

    def want(self) -> Want:
        return Want(self._identity.certificate)

    # Dialling

    async def dial(self, host: str, node: NodeId, grant: Grant, entered: Callable[[LaneConnection], FrameSink]) -> None:
        """Open a lane by `grant`, which `node` gave. Raises MeshError, OSError; the caller sets the time limit."""
        _require_own(grant.certificate, node)
        connection = LaneConnection(len(_WELCOME), lambda made, _: entered(made))
        try:
            context = self._identity.context(is_server=False, expected=[grant.certificate])
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                host,
                grant.port,
                ssl=context,
                server_hostname="",  # a pin names the peer, and nothing is said in the clear
                local_addr=self._source(),
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=GOODBYE_S,
            )
            _require_node(connection, node)
            connection.write(grant.ticket)
            await connection.ready
        except BaseException:
            connection.abort()
            raise

    def _source(self) -> tuple[str, int] | None:
        """The address that our QUIC packets come from, when that was chosen for us: the peer expects no other."""
        return None if self._bind.host in ("::", "0.0.0.0") else (self._bind.host, 0)

    # Meeting

    async def accept_all(self, spawn: Callable[[Coroutine[Any, Any, None], str], object]) -> None:
        """Take connections for ever. spawn: runs each one's handshake."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, where = await loop.sock_accept(self._socket)
            except OSError as error:  # out of descriptors, or the caller has gone already
                logger.debug("cannot accept a bulk lane: %s", error)
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            expected = self._tickets.expected_from(plain_host(where[0]), monotonic())
            if not expected or self._half_open >= MAX_HALF_OPEN:
                self.strangers += 1
                accepted.close()
                continue
            self._half_open += 1
            spawn(self._meet(accepted, expected), "meet a bulk lane")

    async def _meet(self, accepted: socket.socket, expected: list[bytes]) -> None:
        connection = LaneConnection(TICKET_BYTES, self._shown)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await self._secure(accepted, expected, connection)
                await connection.ready
        except (MeshError, OSError) as error:
            self.strangers += 1
            logger.debug("a bulk lane came to nothing: %s", error)
        finally:
            self._half_open -= 1
            if not connection.ready.done() or connection.ready.exception() is not None:
                connection.abort()

    async def _secure(self, accepted: socket.socket, expected: list[bytes], connection: LaneConnection) -> None:
        try:
            context = self._identity.context(is_server=True, expected=expected)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=GOODBYE_S,
            )
        except BaseException:
            with suppress(OSError):
                accepted.close()
            raise

    def _shown(self, connection: LaneConnection, ticket: bytes) -> FrameSink:
        holder = self._tickets.redeem(ticket, connection.peer_node(), monotonic())
        connection.write(_WELCOME)
        return self._entered(holder, connection)


def plain_host(host: str) -> str:
    """An IP literal as every socket spells it: no mapping into IPv6, no zone."""
    return host.removeprefix("::ffff:").partition("%")[0]


def listening_socket(bind: Address) -> socket.socket:
    """TCP beside the UDP socket on `bind`; on any port, when another program has that one."""
    try:
        return _listening(bind.host, bind.port)
    except OSError as error:
        logger.info("TCP port %d is taken (%s): bulk lanes are met on another one", bind.port, error)
        return _listening(bind.host, 0)


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.create_server(
        (host, port), family=family, backlog=MAX_HALF_OPEN, dualstack_ipv6=family == socket.AF_INET6
    )
    made.setblocking(False)
    return made


def _require_own(certificate: bytes, node: NodeId) -> None:
    if certificate_node(certificate) != node:
        raise ProtocolError(f"expected the certificate of node {short(node)}, got another node's")


def _require_node(connection: LaneConnection, node: NodeId) -> None:
    if connection.peer_node() != node:
        raise ProtocolError(f"expected node {short(node)} behind its port, found another")
