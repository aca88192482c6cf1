"""Keeps this node's certificate young, and renews those of others: `renew/1` at both ends.

Whom to ask and what an answer is worth is decided in `transport.renewal`; here is when to ask again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from typing import NamedTuple

from gossip.runner import GossipRunner
from meshd.mesh_facts import is_delegate
from meshd.standing import Doorkeeper, Standing
from transport.budget import Allowance, PeerBudgets
from transport.certificate import MemberCertificate, verify_certificate
from transport.errors import MeshError, RefusalCode, Refused
from transport.handshake import MAX_MESSAGE_BYTES
from transport.identity import short
from transport.interface import NodeId, Peer, Role, Stream, StreamHeader
from transport.question import ask, serve_question
from transport.renewal import DEADLINE_S, PROTOCOL, Renewer, Renewing, Wish, may_sign, wish

logger = logging.getLogger("meshd.renewals")

EACH = Allowance(in_flight=2, burst=8, per_second=0.1)
TOGETHER = Allowance(in_flight=16, burst=64, per_second=16.0)
"""An answer takes about 2 ms of CPU, so all of them at most 3 % of a core in the long run."""

CHECK_S = 60.0
LOOK_AGAIN_S = 1.0
FIRST_BACKOFF_S = 15.0
MAX_BACKOFF_S = 3600.0
"""A third of a certificate's life is ten days: 240 attempts at the slowest."""

MAX_ASKED = 16
"""In one attempt: with these out of reach, others are no better."""


class Outlook(NamedTuple):
    """What a node's chance of a new certificate depends on, and its need of one beside time."""

    root: bytes
    signers: frozenset[NodeId]
    is_delegate: bool | None


class Renewals:
    """One node's part in renewing. dice: for back-off, and for whom to ask first."""

    def __init__(self, standing: Standing, transport: Doorkeeper, gossip: GossipRunner, dice: random.Random) -> None:
        self._standing = standing
        self._transport = transport
        self._gossip = gossip
        self._dice = dice
        self._budgets = PeerBudgets(EACH, TOGETHER)
        self._failures = 0
        self._may_sign: dict[bytes, bool] = {}

    # Being asked

    async def serve(self, stream: Stream) -> None:
        """Answer one `renew/1` stream. Raises MeshError for what goes wrong with it."""
        await serve_question(stream, self._answer, DEADLINE_S, MAX_MESSAGE_BYTES)

    async def _answer(self, asker: Peer, question: bytes) -> bytes:
        if not self._budgets.take(asker.node, asyncio.get_running_loop().time()):
            raise Refused(RefusalCode.BUSY, "this node was asked to renew too often; ask later, or ask another")
        try:
            delegates = self._standing.belonging.delegates or frozenset()
            renewer = Renewer(self._transport.site, delegates)
            return renewer.answer(question, asker.node, self._standing.unix_time(), os.urandom)
        finally:
            self._budgets.give_back(asker.node)

    # Asking

    async def run(self) -> None:
        """Renew whenever that is due, until cancelled."""
        while True:
            outlook = self._outlook()
            self._failures = 0 if await self._renew(outlook) else self._failures + 1
            await self._rest(outlook)

    async def _renew(self, outlook: Outlook) -> bool:
        """Whether no new certificate is wanted, or no longer."""
        try:
            if self._standing.renew_as_owner() or self._wish(outlook) is Wish.NONE:
                return True
            await self._ask_around(outlook)
            return self._wish(self._outlook()) is Wish.NONE
        except Refused as refused:
            logger.error("this node is no member any more: %s", refused)
        except OSError as error:
            logger.error("cannot keep a new certificate: %s", error)
        return False

    async def _rest(self, before: Outlook) -> None:
        """Until it is time to look again, or to try again, or the outlook is another than `before`."""
        limit_s = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(self._failures - 1, 12))
        pause_s = limit_s * self._dice.uniform(0.5, 1.0) if self._failures else CHECK_S
        try:
            async with asyncio.timeout(pause_s):
                while self._outlook() == before:
                    await self._gossip.changed(self._gossip.view.version)
                    await asyncio.sleep(LOOK_AGAIN_S)
        except TimeoutError:
            return

    def _wish(self, outlook: Outlook) -> Wish:
        """From whom a new certificate is wanted now. Raises Refused when the present one does not hold any more."""
        standing, own = self._standing, self._standing.certificate()
        wanted = wish(own, standing.roots, standing.unix_time())
        return Wish.SIGNER if wanted is Wish.NONE and _is_called(own, outlook) else wanted

    async def _ask_around(self, outlook: Outlook) -> None:
        """Ask signers and, when anyone will do, members, until there is a new certificate."""
        standing, own = self._standing, self._standing.certificate()
        now = standing.unix_time()
        renewing = Renewing(standing.belonging.key, standing.membership, standing.revoked, now)
        only_owners = _is_called(own, outlook) and renewing.wish is Wish.NONE
        for peer in self._in_turn(outlook.signers, renewing.wish, only_owners=only_owners):
            try:
                header = StreamHeader(PROTOCOL, "", int(DEADLINE_S * 1000))
                answer = await ask(self._transport, peer, header, renewing.request(), MAX_MESSAGE_BYTES)
                renewed = renewing.receive(answer, peer, standing.unix_time())
            except MeshError as error:
                logger.info("node %s does not renew this node's membership: %s", short(peer), error)
                continue
            if renewed is not None:
                standing.renewed(renewed)
                return

    def _in_turn(self, signers: frozenset[NodeId], wanted: Wish, *, only_owners: bool) -> list[NodeId]:
        """Owners, then other signers, then members; in each group by the dice."""
        peers = list(self._transport.peers())
        self._dice.shuffle(peers)
        peers.sort(key=lambda peer: (peer.role is not Role.OWNER, peer.node not in signers))
        if only_owners:
            peers = [peer for peer in peers if peer.role is Role.OWNER]
        elif wanted is Wish.ANYONE:
            peers = [peer for peer in peers if peer.role is not Role.CLIENT]
        else:
            peers = [peer for peer in peers if peer.node in signers]
        return [peer.node for peer in peers[:MAX_ASKED]]

    def _outlook(self) -> Outlook:
        standing, peers = self._standing, self._transport.peers()
        known = self._may_sign
        self._may_sign = {
            peer.certificate: known[peer.certificate] if peer.certificate in known else self._is_signer(peer)
            for peer in peers
        }
        signers = frozenset(peer.node for peer in peers if self._may_sign[peer.certificate])
        called = is_delegate(self._gossip.view, standing.belonging.key.node)
        return Outlook(standing.membership.root_public, signers, called)

    def _is_signer(self, peer: Peer) -> bool:
        standing = self._standing
        try:
            roots, mesh_id = standing.roots, standing.membership.mesh_id
            return may_sign(verify_certificate(peer.certificate, roots, mesh_id, standing.unix_time()))
        except Refused:
            return False


def _is_called(own: MemberCertificate, outlook: Outlook) -> bool:
    """Whether the owner lets this node invite and its certificate does not, or the other way round."""
    is_meant = own.role is Role.MEMBER and outlook.is_delegate is not None
    return is_meant and outlook.is_delegate is not ("can_invite" in own.caps)
