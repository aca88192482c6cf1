"""`interface.Transport` over QUIC, and joining a mesh by invitation.

Wires the parts together: endpoint and sessions below, admission for everyone who comes or is dialled, the
switchboard above. Control and data connections are dialled, accepted and admitted alike.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from transport.admission import Admitted, Site
from transport.bulk import PROTOCOL as BULK_PROTOCOL
from transport.bulk import BulkLanes, Lane, LaneIdentity
from transport.certificate import Membership, names_in
from transport.credit import DEFAULT_BUDGET_BYTES, DEFAULT_WINDOW_BYTES
from transport.errors import MeshError, RefusalCode, Refused, TimedOut, Unreachable
from transport.forwarding import DEADLINE_S, MAX_ANSWER_BYTES, ForwardBudget
from transport.forwarding import PROTOCOL as JOIN_PROTOCOL
from transport.interface import Address, Link, Links, NodeId, Peer, Stream, StreamHeader, TransportEvent
from transport.invite import Invite
from transport.link_effect import Dial, Slot
from transport.pairing import AskingAdmission, PairingDesk, SeenMesh, StillWaiting
from transport.question import ask
from transport.quic.admitting import HANDSHAKE_S, REFUSED_CODE, Doorway, Wanted
from transport.quic.asking import ask_to_come_in, look
from transport.quic.connection import QuicPeerConnection, Uses
from transport.quic.endpoint import Endpoint
from transport.quic.local_addresses import reachable_addresses
from transport.quic.reach import AGAIN_S, first_answering, socket_addresses
from transport.quic.session import SessionFactory
from transport.quic.udp import SocketAddress, UdpSocket
from transport.site import shut_out
from transport.switchboard import Connection, Switchboard
from transport.windows import Windows

logger = logging.getLogger("meshd.transport")

MAX_CONNECTIONS_PER_PEER = 8
"""Two serve; the others were replaced and end with their streams, or at once when there are more."""

_PERHAPS_ELSEWHERE = frozenset(
    (
        RefusalCode.WRONG_MESH,
        RefusalCode.BAD_PROOF,
        RefusalCode.BAD_CERTIFICATE,
        RefusalCode.NOT_ISSUER,
        RefusalCode.MALFORMED,
        RefusalCode.BUSY,
    )
)
"""Refusals that another node behind another of the same addresses need not repeat."""


async def _nothing_to_save(token_id: bytes) -> None:
    """For nodes that issue no tokens."""


def _nothing_to_learn(membership: Membership) -> None:
    """For endpoints whose membership nobody keeps."""


@dataclass(frozen=True, slots=True)
class QuicOptions:
    """window_bytes: each stream's (`credit`); 4 MiB suits links beyond a LAN.  budget_bytes: of all windows together.

    save_redemption: called with a token's id before a node that joined by it is let in; awaited, so that the
    token book is on disk by then.
    advertise: where peers reach this endpoint, where that is not what the socket is bound to (behind NAT or a
    relay). Port 0 means the socket's own.
    learn: called with our own membership under a new root key, of which a peer brought proof.
    unix_time: the wall clock, for whatever expires.
    bulk: whether to have bulk lanes.
    desk: where nodes wait that ask to come in without a token; None turns them away.
    """

    window_bytes: int = DEFAULT_WINDOW_BYTES
    budget_bytes: int = DEFAULT_BUDGET_BYTES
    save_redemption: Callable[[bytes], Awaitable[None]] = _nothing_to_save
    advertise: tuple[Address, ...] = ()
    learn: Callable[[Membership], None] = _nothing_to_learn
    unix_time: Callable[[], float] = time.time
    bulk: bool = True
    desk: PairingDesk | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """peer: who let us in, and is connected now.  highest_boot: as in `admission.Admitted`."""

    membership: Membership
    peer: Peer
    address: Address
    highest_boot: int | None


class QuicTransport:
    """Use as `async with`; binding happens there and raises OSError when the port is taken."""

    def __init__(self, site: Site, bind: Address, options: QuicOptions | None = None) -> None:
        self.site = site
        """What every later handshake uses. The agent changes it by `revise` when it has renewed or revoked."""
        self._bind = bind
        self._options = options or QuicOptions()
        self._windows = Windows(self._options.window_bytes, self._options.budget_bytes)
        self._refusals: Counter[str] = Counter()
        self._doorway = Doorway(
            lambda: self.site,
            self._options.save_redemption,
            self._ask_issuer,
            self._options.unix_time,
            ForwardBudget(),
            self._options.desk,
        )
        self._switchboard = Switchboard(site.key.node, site.role, "quic", self._dial_peer, random.SystemRandom())
        self._udp: UdpSocket
        self._endpoint: Endpoint
        self._bulk: BulkLanes | None = None

    async def __aenter__(self) -> QuicTransport:
        self._udp = UdpSocket(self._bind)
        await self._switchboard.__aenter__()
        sessions = SessionFactory(self.site.key, self._options.unix_time())
        self._endpoint = Endpoint(self._udp, sessions, self._stranger_came)
        if self._options.bulk:
            await self._start_bulk()
        return self

    async def _start_bulk(self) -> None:
        identity = LaneIdentity(self.site.key, self._options.unix_time())
        bound = Address(self._udp.socket.getsockname()[0], self._udp.port)
        lanes = BulkLanes(identity, bound, self._switchboard.stream_arrived, self._windows)
        try:
            self._bulk = await lanes.__aenter__()
        except OSError as error:
            logger.warning("no TCP port for bulk lanes (%s): everything goes over QUIC", error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._bulk is not None:
                await self._bulk.__aexit__(kind, error, trace)
        finally:
            # Ends every admission in progress too, so the switchboard's tasks have nothing left to wait for.
            self._endpoint.close("shutting down")
            await self._switchboard.__aexit__(kind, error, trace)

    # interface.Transport

    @property
    def node(self) -> NodeId:
        return self.site.key.node

    @property
    def addresses(self) -> tuple[Address, ...]:
        told = tuple(Address(address.host, address.port or self._udp.port) for address in self._options.advertise)
        return told or self.local_addresses

    @property
    def local_addresses(self) -> tuple[Address, ...]:
        """Where this host's own network reaches this endpoint, whatever is advertised."""
        return reachable_addresses(self._bind.host, self._udp.port, self._udp.is_dual_stack)

    @property
    def refusals(self) -> dict[str, int]:
        return dict(self._refusals)

    @property
    def board(self) -> Links:
        return self._switchboard.board

    def links(self) -> tuple[Link, ...]:
        return tuple(map(self._with_lane, self._switchboard.links()))

    def _lane(self, control: Connection | None) -> Lane | None:
        return self._bulk.lane(control) if self._bulk and isinstance(control, QuicPeerConnection) else None

    def _with_lane(self, link: Link) -> Link:
        lane = self._lane(self._switchboard.connection(link.node))
        if lane is None:
            return link
        return dataclasses.replace(
            link,
            carrier=f"{link.carrier}+bulk",
            bytes_sent=link.bytes_sent + lane.bytes_sent,
            bytes_received=link.bytes_received + lane.bytes_received,
        )

    def keep(self, node: NodeId, addresses: tuple[Address, ...]) -> None:
        self._switchboard.keep(node, addresses)

    def drop(self, node: NodeId, reason: str) -> None:
        self._switchboard.drop(node, reason)

    def doubt(self, node: NodeId, reason: str) -> None:
        self._switchboard.doubt(node, reason)

    async def open(self, node: NodeId, header: StreamHeader, *, bulk: bool = False) -> Stream:
        control = self._switchboard.connected_to(node)
        if bulk and self._bulk is not None and isinstance(control, QuicPeerConnection):
            stream = await self._bulk.open(control, header)
            if stream is not None:
                return stream
        return await self._switchboard.open(node, header)

    def send_datagram(self, node: NodeId, payload: bytes) -> bool:
        return self._switchboard.send_datagram(node, payload)

    def streams(self) -> AsyncIterator[Stream]:
        return self._switchboard.streams()

    def events(self) -> AsyncIterator[TransportEvent]:
        return self._switchboard.events()

    def vanish(self) -> None:
        """Close the sockets without a word, as the death of this process would. For tests of what peers make of it."""
        self._endpoint.vanish()
        if self._bulk is not None:
            self._bulk.vanish()

    # Who may stay

    def revise(self, site: Site) -> None:
        """Use `site` in every later handshake, and close at once what its revocation list shuts out."""
        is_news = site.revoked != self.site.revoked
        self.site = site
        if is_news:
            for connection in self._endpoint.connections:
                if connection.is_admitted and self._is_revoked(connection.peer):
                    connection.cut(str(shut_out(connection.peer.node)), REFUSED_CODE)

    def peers(self) -> tuple[Peer, ...]:
        """Everyone connected now, with the certificate shown on arrival."""
        admitted = [connection.peer for connection in self._endpoint.connections if connection.is_admitted]
        return tuple({peer.node: peer for peer in admitted}.values())

    def cut(self, node: NodeId, reason: str) -> None:
        """Close every connection with `node` now. It may come back if it is let in."""
        for connection in self._endpoint.connections:
            if connection.is_admitted and connection.peer.node == node:
                connection.cut(reason, REFUSED_CODE)

    def _is_revoked(self, peer: Peer) -> bool:
        return not names_in(peer.certificate).isdisjoint(self.site.revoked)

    # Joining

    async def join(self, invite: Invite, deadline_s: float) -> Joined:
        """Enter the invitation's mesh through one of its addresses, and stay connected to who let us in.

        Sets `site` to the new membership. Raises Refused when a node there said no, TimedOut when none answered,
        Unreachable when none could be reached; the message is one line for the user.
        """
        loop = asyncio.get_running_loop()
        wanted = Wanted(invite, None)
        connection, admitted = await self._reach(invite.addresses, loop.time() + deadline_s, wanted)
        membership = admitted.membership or self.site.membership
        assert membership is not None  # ClientAdmission answers with one or had one
        self.site = dataclasses.replace(self.site, membership=membership)
        self._establish(connection, admitted.peer)
        return Joined(membership, admitted.peer, connection.address, admitted.highest_boot)

    async def look(self, address: Address, deadline_s: float) -> SeenMesh:
        """Who answers at `address`, without a word about this node. Raises Refused, Unreachable, TimedOut."""
        deadline = asyncio.get_running_loop().time() + deadline_s
        connection = await self._dial_any((address,), deadline)
        return await look(connection, self._options.unix_time(), deadline)

    async def knock(self, address: Address, seen: SeenMesh, code: str, deadline_s: float) -> Joined | StillWaiting:
        """Ask the node that was `seen` at `address` whether this one may come in, without a token.

        code: what the first such question returned; empty then. Sets `site` when it may. Raises Refused when somebody
        said no, or may say nothing there; Unreachable, TimedOut.
        """
        deadline = asyncio.get_running_loop().time() + deadline_s
        connection = await self._dial_any((address,), deadline)
        admission = AskingAdmission(self.site, await connection.secured, os.urandom, seen, code)
        answer = await ask_to_come_in(connection, admission, self._options.unix_time(), deadline)
        if isinstance(answer, StillWaiting):
            return answer
        assert answer.membership is not None  # AskingAdmission saw to it
        self.site = dataclasses.replace(self.site, membership=answer.membership)
        self._establish(connection, answer.peer)
        return Joined(answer.membership, answer.peer, connection.address, answer.highest_boot)

    # Dialling

    async def _dial_any(self, addresses: tuple[Address, ...], deadline: float) -> QuicPeerConnection:
        """A connection to the first that answers, with nobody admitted. Raises Unreachable, TimedOut."""
        targets = await self._resolve(addresses, deadline)
        return await first_answering(self._endpoint.dial, targets, deadline)

    async def _dial_peer(self, dial: Dial) -> None:
        deadline = asyncio.get_running_loop().time() + HANDSHAKE_S
        again_s = AGAIN_S if dial.in_hurry else None
        wanted = Wanted(None, dial.node)
        connection, admitted = await self._reach(dial.addresses, deadline, wanted, dial.slot, again_s)
        self._establish(connection, admitted.peer)
        self._learn(admitted.membership)

    async def _reach(
        self,
        addresses: tuple[Address, ...],
        deadline: float,
        wanted: Wanted,
        slot: Slot = Slot.CONTROL,
        again_s: float | None = None,
    ) -> tuple[QuicPeerConnection, Admitted]:
        """Dial until somebody admits us. The wrong node behind one address does not end the search."""
        if self.site.membership is None and wanted.invite is None:
            raise Unreachable("this node is in no mesh and has no invitation")
        targets = await self._resolve(addresses, deadline)
        refusal: Refused | None = None
        while targets:
            try:
                dial = partial(self._endpoint.dial, slot=slot)
                connection = await first_answering(dial, targets, deadline, again_s)
                targets.remove(connection.socket_address)
                return connection, await self._doorway.ask_admission(connection, wanted, deadline)
            except Refused as refused:
                if refused.code not in _PERHAPS_ELSEWHERE:
                    raise
                refusal = refused
            except Unreachable:
                if refusal is None:
                    raise
                break
        raise refusal or Unreachable(f"none of these addresses is known here: {_hosts(addresses)}")

    async def _resolve(self, addresses: tuple[Address, ...], deadline: float) -> list[SocketAddress]:
        try:
            async with asyncio.timeout_at(deadline):
                return await socket_addresses(addresses, self._udp.family)
        except TimeoutError as error:
            raise TimedOut(f"could not look up {_hosts(addresses)} in time") from error

    # Accepting

    def _stranger_came(self, connection: QuicPeerConnection) -> None:
        self._switchboard.spawn(self._admit(connection), f"admit {connection.address.host}")

    async def _admit(self, connection: QuicPeerConnection) -> None:
        try:
            accepted = await self._doorway.admit_stranger(connection)
            self._endpoint.welcome(connection)
            self._establish(connection, accepted.peer)
            self._learn(accepted.membership)
        except Refused as refused:
            if refused.code is RefusalCode.PAIRING_PENDING:
                return  # it asks again every few seconds
            self._refusals[refused.code.value] += 1
            logger.info("refused %s: %s", connection.address.host, refused)
        except MeshError as error:
            logger.debug("admission of %s came to nothing: %s", connection.address.host, error)

    async def _ask_issuer(self, issuer: NodeId, question: bytes) -> bytes:
        header = StreamHeader(JOIN_PROTOCOL, "", int(DEADLINE_S * 1000))
        return await ask(self, issuer, header, question, MAX_ANSWER_BYTES)

    def _learn(self, membership: Membership | None) -> None:
        if membership is not None:
            self._options.learn(membership)

    def _establish(self, connection: QuicPeerConnection, peer: Peer) -> None:
        """Let `peer` in, unless it was revoked while it was being admitted: Refused."""
        if self._is_revoked(peer):
            connection.close(str(shut_out(peer.node)), REFUSED_CODE)
            raise shut_out(peer.node)
        self._make_room(peer.node)
        board = self._switchboard
        uses = Uses(
            connected=lambda: board.connected(connection),
            stream_arrived=lambda stream: self._stream_arrived(connection, stream),
            datagram_arrived=board.datagram_arrived,
            answered=lambda: board.answered(connection),
            bounced=lambda: board.bounced(connection),
            ended=lambda reason, was_silent: board.disconnected(connection, reason, was_silent),
            windows=self._windows,
            streams_beside=lambda: len(self._lane(connection) or ()),
        )
        connection.admit(peer, uses)

    def _make_room(self, node: NodeId) -> None:
        """Cut connections of a peer that keeps making new ones: first those that were replaced, the oldest of them."""
        held = [one for one in self._endpoint.connections if one.is_admitted and one.peer.node == node]
        held.sort(key=lambda one: (not one.is_retired, one.admitted_at))
        for connection in held[: max(0, len(held) + 1 - MAX_CONNECTIONS_PER_PEER)]:
            connection.cut("too many connections of one node", REFUSED_CODE)

    def _stream_arrived(self, connection: QuicPeerConnection, stream: Stream) -> None:
        """Hand it on, unless it is about the transport itself."""
        if self._bulk is not None and stream.header.protocol == BULK_PROTOCOL:
            self._bulk.wish_arrived(connection, stream)
        else:
            self._switchboard.stream_arrived(stream)


def _hosts(addresses: tuple[Address, ...]) -> str:
    return ", ".join(address.host for address in addresses) or "(none)"
