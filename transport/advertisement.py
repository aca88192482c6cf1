"""What a node says of itself on the local network, and what of others' words is believed: enough to dial, no more.

An advertisement has a tag, an HMAC of the mesh id and the day, by which members know their own mesh; and the
node's id, sealed for members together with its port. A listener learns neither the mesh nor the node, and sees
other values tomorrow. Whoever knows the mesh id can read and forge both, and anyone can repeat them from another
address: all it wins is to be dialled. Admission decides who is who.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from transport.interface import Address, NodeId

T = TypeVar("T")

SERVICE = "_meshd._udp.local."
VERSION = b"1"
DAY_S = 86_400
MAX_TXT_BYTES = 400
"""Ours has about 110."""

MAX_HOSTS = 8
MAX_NODES = 256
MAX_OTHER_MESHES = 64
_TAG_BYTES = 16
_SEALED_BYTES = 16 + 32


@dataclass(frozen=True, slots=True)
class Found:
    """A node that says it belongs to our mesh may be listening at `addresses`."""

    node: NodeId
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class OtherMesh:
    """A mesh on this network that is not ours. tag: what its members' advertisements share today."""

    tag: bytes
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """One advertisement as it came, unchecked. name: its DNS-SD instance.  hosts: IP literals."""

    name: str
    text: Mapping[bytes, bytes | None]
    hosts: tuple[str, ...]
    port: int


def day_of(now: float) -> int:
    """The number of the UTC day that the Unix time `now` falls in."""
    return int(now // DAY_S)


def discovery_tag(mesh_id: bytes, day: int) -> bytes:
    """What the members of a mesh share on that day: 16 bytes that do not tell the mesh."""
    return _derive(mesh_id, b"meshd discovery tag v1", day)[:_TAG_BYTES]


def advertise(mesh_id: bytes, node: NodeId, port: int, day: int) -> dict[str, bytes]:
    """The TXT record of a node of this mesh that listens on `port`. The same all day."""
    sealed = AESSIV(_seal_key(mesh_id, day)).encrypt(node, [port.to_bytes(2, "big")])
    return {"v": VERSION, "mesh": _spell(discovery_tag(mesh_id, day)), "node": _spell(sealed)}


def read_tag(text: Mapping[bytes, bytes | None]) -> bytes | None:
    """The tag in a TXT record, None where there is none that this version reads."""
    if text.get(b"v") != VERSION:
        return None
    tag = _read(text.get(b"mesh"))
    return tag if tag is not None and len(tag) == _TAG_BYTES else None


def read_node(mesh_id: bytes, text: Mapping[bytes, bytes | None], port: int, today: int) -> NodeId | None:
    """The node of our mesh that a TXT record and port speak of; None for other meshes and for what is not whole.

    Clocks may differ: yesterday's and tomorrow's words count too.
    """
    tag, sealed = read_tag(text), _read(text.get(b"node"))
    if tag is None or sealed is None:
        return None
    for day in (today, today - 1, today + 1):
        if hmac.compare_digest(tag, discovery_tag(mesh_id, day)):
            return _open(_seal_key(mesh_id, day), sealed, port)
    return None


class Sightings:
    """What was heard, deduplicated and bounded: when a table is full, its oldest entry makes room.

    mesh_id: None for a node that belongs to no mesh; everything is another mesh then.
    """

    def __init__(self, mesh_id: bytes | None, me: NodeId) -> None:
        self._mesh_id = mesh_id
        self._me = me
        self._found: dict[str, Found] = {}
        self._others: dict[str, OtherMesh] = {}

    def heard(self, said: Heard, now: float) -> Found | None:
        """What an advertisement tells that was not known: a node of our mesh, or new addresses of one."""
        tag, addresses = read_tag(said.text), usable_addresses(said.hosts, said.port)
        if tag is None or not addresses:
            return None
        node = self._node(said, now)
        if node is None:
            _put(self._others, said.name, OtherMesh(tag, addresses), MAX_OTHER_MESHES)
            return None
        found = Found(node, addresses)
        is_known = self._found.get(said.name) == found
        _put(self._found, said.name, found, MAX_NODES)
        return None if is_known or node == self._me else found

    def gone(self, name: str) -> None:
        """Forget what the instance `name` said; when it comes back it is news."""
        self._found.pop(name, None)
        self._others.pop(name, None)

    @property
    def other_meshes(self) -> tuple[OtherMesh, ...]:
        """Meshes that are not ours, each once, with the addresses of its nodes that were heard."""
        meshes: dict[bytes, dict[Address, None]] = {}
        for other in self._others.values():
            meshes.setdefault(other.tag, {}).update(dict.fromkeys(other.addresses))
        return tuple(OtherMesh(tag, tuple(addresses)[:MAX_HOSTS]) for tag, addresses in meshes.items())

    def _node(self, said: Heard, now: float) -> NodeId | None:
        if self._mesh_id is None:
            return None
        return read_node(self._mesh_id, said.text, said.port, day_of(now))


def usable_addresses(hosts: Iterable[str], port: int) -> tuple[Address, ...]:
    """The addresses worth dialling, at most `MAX_HOSTS`: no groups, nothing that needs a zone; loopback only alone.

    An agent that is found on this very host offers its network address too, unless there is no network.
    """
    if not 0 < port < 1 << 16:
        return ()
    literals = [literal for literal in map(_literal, hosts) if literal is not None]
    outside = [literal for literal in literals if not literal.is_loopback]
    return tuple(Address(str(literal), port) for literal in dict.fromkeys(outside or literals))[:MAX_HOSTS]


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        return None
    is_usable = not (literal.is_multicast or literal.is_unspecified or literal.is_link_local)
    return literal if is_usable and host != "255.255.255.255" else None


def _put(table: dict[str, T], name: str, value: T, limit: int) -> None:
    """Set the newest entry of a table that holds at most `limit`."""
    table.pop(name, None)
    while len(table) >= limit:
        del table[next(iter(table))]
    table[name] = value


def _derive(mesh_id: bytes, purpose: bytes, day: int) -> bytes:
    return hmac.digest(mesh_id, purpose + day.to_bytes(8, "big", signed=True), "sha256")


def _seal_key(mesh_id: bytes, day: int) -> bytes:
    """A key for AES-SIV, which needs no dice: equal words are sealed alike (RFC 5297)."""
    return _derive(mesh_id, b"meshd discovery seal v1", day)


def _open(key: bytes, sealed: bytes, port: int) -> NodeId | None:
    if len(sealed) != _SEALED_BYTES:
        return None
    try:
        return NodeId(AESSIV(key).decrypt(sealed, [port.to_bytes(2, "big")]))
    except InvalidTag:
        return None


def _spell(value: bytes) -> bytes:
    return base64.urlsafe_b64encode(value).rstrip(b"=")


def _read(value: bytes | None) -> bytes | None:
    if value is None or len(value) > MAX_TXT_BYTES:
        return None
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return None
