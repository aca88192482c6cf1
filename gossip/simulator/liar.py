"""A member that alters what it passes on of others: records and facts that their owners never signed."""

from __future__ import annotations

import hashlib
import random

import msgspec

from gossip.facts import FactHeader
from gossip.member import MemberBody
from gossip.message import (
    RUMOUR_BUDGET_BYTES,
    Delta,
    DeltaEntry,
    FactRumour,
    MemberRumour,
    Packet,
    decode_outline_entry,
    decode_packet,
    decode_reliable,
    decode_rumour,
    rumour_cost,
)
from transport import wire
from transport.errors import ProtocolError
from transport.interface import NodeId

SHARE = 0.5
"""Of what it passes on."""


class Liar:
    """Rewrites what leaves one node. It has no key but its own, so signatures stay as they were."""

    def __init__(self, me: NodeId, dice: random.Random) -> None:
        self._me = me
        self._dice = dice

    def datagram(self, payload: bytes) -> bytes:
        """What it sends instead."""
        packet = decode_packet(payload, self._me)
        lies = tuple(map(self._rumour, packet.rumours))
        if sum(map(rumour_cost, lies)) > RUMOUR_BUDGET_BYTES:
            return payload
        return wire.encode(Packet(packet.probe, lies, tuple(map(self._named, packet.outline))))

    def message(self, payload: bytes) -> bytes:
        """What it says on a stream instead."""
        try:
            message = decode_reliable(payload, self._me)
        except ProtocolError:
            return payload  # of another protocol
        if not isinstance(message, Delta):
            return payload
        return wire.encode(Delta(tuple(map(self._entry, message.entries)), message.has_more))

    def _named(self, encoded: bytes) -> bytes:
        """More than it has, nothing at all, or the truth."""
        entry = decode_outline_entry(encoded, self._me)
        facts = self._dice.choice((entry.facts + 3, 0, entry.facts))
        return wire.encode(msgspec.structs.replace(entry, facts=facts))

    def _entry(self, entry: DeltaEntry) -> DeltaEntry:
        record = self._rumour(entry.record) if entry.record else b""
        return msgspec.structs.replace(entry, record=record, facts=tuple(map(self._rumour, entry.facts)))

    def _rumour(self, payload: bytes) -> bytes:
        if self._dice.random() >= SHARE:
            return payload
        match decode_rumour(payload, self._me):
            case MemberRumour() as rumour:
                return self._member(payload, rumour)
            case FactRumour() as rumour:
                return self._fact(payload, rumour)
            case _:
                return payload

    def _member(self, payload: bytes, rumour: MemberRumour) -> bytes:
        body = wire.decode(rumour.body, MemberBody, peer=self._me, max_bytes=640)
        if body.node == self._me:
            return payload
        lie = self._dice.choice(
            (
                msgspec.structs.replace(body, incarnation=body.incarnation + 1000),
                msgspec.structs.replace(body, boot=body.boot + 1000),
                msgspec.structs.replace(body, has_left=True),
            )
        )
        return wire.encode(msgspec.structs.replace(rumour, body=wire.encode(lie)))

    def _fact(self, payload: bytes, rumour: FactRumour) -> bytes:
        header = wire.decode(rumour.header, FactHeader, peer=self._me, max_bytes=512)
        if header.node == self._me or rumour.value is None:
            return payload
        # The same length, so that only the digest is wrong; or a header to match, so that only the signature is.
        value = bytes(len(rumour.value))
        if self._dice.random() < 0.5:
            return wire.encode(msgspec.structs.replace(rumour, value=value))
        digest = hashlib.sha256(value).digest()
        lie = msgspec.structs.replace(header, version=header.version + 1, digest=digest)
        return wire.encode(FactRumour(wire.encode(lie), rumour.signature, value))
