"""What happened, in order: a digest of all of it, and the last of it in words."""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Sequence

from gossip.event import (
    Connected,
    Disconnected,
    Doubt,
    Drop,
    Effect,
    Event,
    Keep,
    Notify,
    Persist,
    RaiseBoot,
    Received,
    ReliableReceived,
    Reply,
    SendDatagram,
    SendReliable,
)
from gossip.message import Packet, decode_packet, decode_reliable
from transport.errors import ProtocolError
from transport.identity import short
from transport.interface import NodeId

LAST = 40


class Trace:
    """Takes every event that an engine handled, with its effects."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)
        self._last: deque[tuple[float, str, str | Event, Sequence[Effect]]] = deque(maxlen=LAST)

    @property
    def digest(self) -> str:
        """Equal for two runs in which every engine did the same at the same times, and for no others."""
        return self._digest.hexdigest()

    def note(self, now: float, name: str, event: Event, effects: Sequence[Effect]) -> None:
        """Add one handled event."""
        parts = [struct.pack("d", now), name.encode(), type(event).__name__.encode()]
        for effect in effects:
            parts.append(type(effect).__name__.encode())
            match effect:
                case SendDatagram(peer, payload) | SendReliable(peer, payload):
                    parts.extend((peer, payload))
                case Reply(payload):
                    parts.append(payload)
                case Keep(node, addresses):
                    parts.extend((node, b" ".join(address.host.encode() for address in addresses)))
                case Drop(node, _) | Doubt(node, _):
                    parts.append(node)
                case Persist(places):
                    parts.extend(node for node, _ in places)
                case Notify() | RaiseBoot():
                    pass
        self._digest.update(b"\0".join(parts))
        self._last.append((now, name, event, effects))

    def say(self, now: float, name: str, what: str) -> None:
        """Add something that the world did."""
        self._digest.update(f"{now} {name} {what}".encode())
        self._last.append((now, name, what, ()))

    def last(self) -> list[str]:
        """The last events in words, oldest first."""
        return [_line(*entry) for entry in self._last]


def _line(now: float, name: str, event: str | Event, effects: Sequence[Effect]) -> str:
    if isinstance(event, str):
        return f"{now:9.3f} {name:>5} *** {event}"
    done = ", ".join(_effect(effect) for effect in effects)
    return f"{now:9.3f} {name:>5} {_event(event)}{' -> ' + done if done else ''}"


def _event(event: Event) -> str:
    match event:
        case Received(peer, payload):
            return f"from {short(peer)}: {_packet(peer, payload)}"
        case ReliableReceived(peer, payload):
            return f"stream from {short(peer.node)}: {_reliable(peer.node, payload)}"
        case Connected(peer):
            return f"connected {short(peer.node)} boot {peer.boot}"
        case Disconnected(node, reason, is_final):
            return f"{'lost' if is_final else 'disconnected'} {short(node)}: {reason}"
        case _:
            return type(event).__name__


def _effect(effect: Effect) -> str:
    match effect:
        case SendDatagram(peer, payload):
            return f"to {short(peer)}: {_packet(peer, payload)}"
        case SendReliable(peer, payload):
            return f"stream to {short(peer)}: {_reliable(peer, payload)}"
        case Reply(payload):
            return f"reply {len(payload)} B"
        case _:
            return type(effect).__name__


def _packet(peer: NodeId, payload: bytes) -> str:
    try:
        return _words(decode_packet(payload, peer))
    except ProtocolError:
        return f"{len(payload)} bad bytes"


def _reliable(peer: NodeId, payload: bytes) -> str:
    try:
        message = decode_reliable(payload, peer)
    except ProtocolError:
        return f"{len(payload)} bad bytes"
    return _words(message) if isinstance(message, Packet) else type(message).__name__


def _words(packet: Packet) -> str:
    word = "" if packet.probe is None else type(packet.probe).__name__
    return f"{word}+{len(packet.rumours)}"
