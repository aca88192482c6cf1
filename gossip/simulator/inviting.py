"""Joining by token in a simulated mesh: the issuer's real token book, and joiners that reach it through any member.

Stands where `transport.admission`, `transport.forwarding` and the drivers around them stand in an agent; proofs
are real, the handshake's signatures are left out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from gossip.event import Effect, Event
from gossip.simulator.agenda import Action
from gossip.simulator.host import Host, OnReply, Process
from gossip.simulator.world import World
from transport.certificate import found_mesh
from transport.errors import Refused
from transport.identity import NodeKey
from transport.interface import Address, Role
from transport.invite import Invite, join_proof, parse_token
from transport.token_book import TokenBook

FORWARD_S = 3.0
ASK_AGAIN_S = 2.0
DISK_S = 0.03
BINDING = b"b" * 32
TTL_S = 3600.0
GRANTED = b"granted"
REFUSED = b"refused"


class Inviting:
    """One issuer, its tokens, and who has joined by each. Add it to `World.watchers` before the issuer starts.

    admitted: by token, the keys of those that hold a certificate for it.
    """

    def __init__(self, world: World, issuer: Host, seed: int | str) -> None:
        self.world = world
        self.issuer = issuer
        self.admitted: dict[bytes, dict[bytes, None]] = {}
        self.uses: dict[bytes, int] = {}
        self._dice = random.Random(f"inviting {seed}")
        self._key = NodeKey.generate(self._dice.randbytes)
        root = NodeKey.generate(self._dice.randbytes)
        self._membership = found_mesh("simulated", root, self._key, world.unix_time(issuer), self._dice.randbytes)
        self._first_key = self._dice.randbytes(32)
        self._book: TokenBook | None = None

    def handled(self, process: Process, event: Event, effects: Sequence[Effect]) -> None:
        pass

    def started(self, process: Process) -> None:
        """Read the token book when the issuer starts."""
        if process.host is self.issuer:
            stored = self.issuer.disk.tokens
            book = TokenBook.from_bytes(stored, self._key, self._membership) if stored else None
            self._book = book or TokenBook(self._key, self._membership, self._first_key)

    def invite(self, uses: int) -> Invite | None:
        """Make a token; None while the issuer is down."""
        if self.issuer.process is None or self._book is None:
            return None
        address = Address("192.0.2.1", 7842)
        now = self.world.unix_time(self.issuer)
        invite = parse_token(self._book.create(Role.MEMBER, TTL_S, uses, [address], now, self._dice.randbytes))
        self.issuer.disk.tokens = self._book.to_bytes()
        self.uses[invite.token_id] = uses
        self.admitted[invite.token_id] = {}
        return invite

    def join(self, joiner: Host, invite: Invite, through: list[Host], until: float) -> None:
        """Let a host that is down ask members in turn until one lets it in, or the time is `until`."""
        public = self.world.keys.local(joiner.name, joiner.role, 1).public
        if joiner.is_up or public in self.admitted[invite.token_id] or self.world.now >= until:
            return
        door = self._dice.choice(through)
        member = door.process
        network, agenda = self.world.network, self.world.agenda
        if member is not None and not network.loses(joiner.node, door.node):
            proof = join_proof(invite.secret, BINDING, public)
            home = partial(self._come_home, joiner, door, through, invite)
            question = invite.token_id + public + proof
            agenda.after(
                network.delay_s(), partial(self.world.arrive, member, partial(self._ask, member, question, home))
            )
        agenda.after(ASK_AGAIN_S, partial(self.join, joiner, invite, through, until))

    def _ask(self, member: Process, question: bytes, home: OnReply) -> None:
        """At the member: redeem it here, or ask the issuer."""
        if member.host is self.issuer:
            self._redeem(question, home)
        else:
            self.world.carrier.ask(
                member, self.issuer.node, question, partial(self._forwarded, member, home), FORWARD_S
            )

    def _forwarded(
        self, member: Process, home: OnReply, process: Process, far: Process, payload: bytes, on_reply: OnReply | None
    ) -> None:
        if process is member:
            home(payload)
        elif on_reply is not None:
            self._redeem(payload, on_reply)

    def _redeem(self, question: bytes, on_reply: OnReply) -> None:
        token_id, public, proof = question[:8], question[8:40], question[40:]
        book, process = self._book, self.issuer.running
        assert book is not None
        now = self.world.unix_time(self.issuer)
        try:
            redemption = book.redeem(token_id, proof, BINDING, public, Role.MEMBER, now)
        except Refused:
            on_reply(REFUSED)
            return
        if redemption.counted:
            content = book.to_bytes()
            self.world.agenda.after(DISK_S, partial(self._saved, process, content, partial(on_reply, GRANTED)))
        else:
            on_reply(GRANTED)

    def _saved(self, process: Process, content: bytes, answer: Action) -> None:
        """The use is on disk, so it may be told; where the issuer died before that, nobody hears of it."""
        if process.is_running:
            self.issuer.disk.tokens = content
            self.world.arrive(process, answer)

    def _come_home(self, joiner: Host, door: Host, through: list[Host], invite: Invite, answer: bytes) -> None:
        network = self.world.network
        if answer == GRANTED and not network.loses(door.node, joiner.node):
            self.world.agenda.after(network.delay_s(), partial(self._admit, joiner, through, invite))

    def _admit(self, joiner: Host, through: list[Host], invite: Invite) -> None:
        public = self.world.keys.local(joiner.name, joiner.role, 1).public
        self.admitted[invite.token_id][public] = None
        if not joiner.is_up:
            self.world.start(joiner, through)
