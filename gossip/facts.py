"""What each node says about itself: small values by key, owner-only, versioned, signed.

Every update raises its owner's version counter. The signed header also carries a fingerprint of the
owner's whole table after the update; who holds that very table lacks nothing, however the updates came,
and no relay can hide one. Values are opaque here, but for the two that every node publishes.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Literal, TypeVar

import msgspec

from gossip.message import (
    MAX_FACT_BYTES,
    MAX_FACTS_PER_NODE,
    MAX_INLINE_FACT_BYTES,
    PREFIX_BYTES,
    FactRumour,
    OutlineEntry,
)
from gossip.trust import Signer, Verifier
from gossip.view import NodeView
from transport import wire
from transport.errors import ProtocolError
from transport.identity import short
from transport.interface import NodeId

logger = logging.getLogger("meshd.gossip")
T = TypeVar("T", bound=msgspec.Struct)

SYSTEM = "sys"
GPU = "gpu"
_DOMAIN = b"meshd-fact-v1"
_FINGERPRINT_BYTES = 8

Key = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Bytes = Annotated[int, msgspec.Meta(ge=0, lt=1 << 60)]


class SystemFact(msgspec.Struct, frozen=True):
    """The fact `sys`: the host this node runs on. load_avg: one minute's."""

    version: wire.ShortText
    platform: wire.ShortText
    load_avg: float
    uptime_s: wire.Seconds
    cpu_count: Annotated[int, msgspec.Meta(ge=1, lt=1 << 20)]
    ram_total_bytes: Bytes
    ram_free_bytes: Bytes


class Held(msgspec.Struct, frozen=True, array_like=True):
    """Bytes of one device by what its node reserved them for. rest: work areas and margins."""

    weights: Bytes = 0
    kv: Bytes = 0
    forms: Bytes = 0
    rest: Bytes = 0


NOTHING_HELD = Held()


class Device(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that computes, and its memory. A host without a GPU lists its RAM, labelled "cpu".

    held: None where nothing is, and of a node that is too old to say.
    """

    name: wire.ShortText
    kind: Literal["cuda", "cpu"]
    total_bytes: Bytes
    free_bytes: Bytes
    held: Held | None = None

    @property
    def uses(self) -> Held:
        """What its node holds of it, as far as it says."""
        return self.held or NOTHING_HELD


class GpuFact(msgspec.Struct, frozen=True):
    """The fact `gpu`: this node's devices."""

    devices: Annotated[tuple[Device, ...], msgspec.Meta(max_length=64)]


class FactHeader(msgspec.Struct, frozen=True, array_like=True):
    """The signed part of a fact. table: fingerprint of the owner's keys and versions after it."""

    node: wire.Bytes32
    boot: wire.Counter
    key: Key
    version: Annotated[int, msgspec.Meta(ge=1, lt=1 << 53)]
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_FACT_BYTES)]
    digest: wire.Bytes32
    table: Annotated[bytes, msgspec.Meta(min_length=_FINGERPRINT_BYTES, max_length=_FINGERPRINT_BYTES)]


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact, checked. value: None when only its header came.

    told: the rumour for datagrams.  naming: the encoded `OutlineEntry` of who knows all up to this one.
    """

    node: NodeId
    boot: int
    key: str
    version: int
    value: bytes | None
    table: bytes
    encoded: bytes
    told: bytes
    naming: bytes


def seal_fact(header: FactHeader, value: bytes, signer: Signer, mesh_id: bytes) -> Fact:
    """Sign one of this node's own facts."""
    encoded_header = wire.encode(header)
    signature = signer.sign(_DOMAIN + mesh_id + encoded_header)
    return _fact(header, FactRumour(encoded_header, signature, value))


def read_header(rumour: FactRumour, peer: NodeId) -> FactHeader:
    """The header of a fact that `peer` passed on, not yet believed. Raises ProtocolError."""
    return wire.decode(rumour.header, FactHeader, peer=peer, max_bytes=512)


def open_fact(
    rumour: FactRumour, header: FactHeader, owner_public: bytes, verifier: Verifier, mesh_id: bytes, peer: NodeId
) -> Fact:
    """Check a fact that `peer` passed on. Raises ProtocolError naming what is wrong."""
    value = rumour.value
    if value is not None and (len(value) != header.size or hashlib.sha256(value).digest() != header.digest):
        raise ProtocolError(f"node {short(peer)} passed on fact {header.key!r} with a value its owner did not sign")
    if not verifier.verify(owner_public, rumour.signature, _DOMAIN + mesh_id + rumour.header):
        raise ProtocolError(f"node {short(peer)} passed on a forged fact of node {short(NodeId(header.node))}")
    return _fact(header, rumour)


def _fact(header: FactHeader, rumour: FactRumour) -> Fact:
    encoded = wire.encode(rumour)
    is_inline = rumour.value is None or len(rumour.value) <= MAX_INLINE_FACT_BYTES
    told = encoded if is_inline else wire.encode(FactRumour(rumour.header, rumour.signature, None))
    node = NodeId(header.node)
    naming = _naming(node, header.boot, header.version)
    return Fact(node, header.boot, header.key, header.version, rumour.value, header.table, encoded, told, naming)


def _naming(node: NodeId, boot: int, version: int) -> bytes:
    """How far the facts of `node` are known, as a packet says it."""
    return wire.encode(OutlineEntry(node[:PREFIX_BYTES], boot, version))


def fingerprint(versions: Mapping[str, int]) -> bytes:
    """A short digest of a table's keys and versions, the same in whatever order they are held."""
    text = "\0".join([f"{key}\0{versions[key]}" for key in sorted(versions)])
    return hashlib.blake2b(text.encode(), digest_size=_FINGERPRINT_BYTES).digest()


@dataclass(slots=True, eq=False)
class _Table:
    """One node's facts in one boot. complete: the version up to which none is missing."""

    boot: int
    complete: int = 0
    facts: dict[str, Fact] = field(default_factory=dict)
    _newest: Fact | None = None
    _shown: Mapping[str, bytes] | None = None

    @property
    def shown(self) -> Mapping[str, bytes]:
        """For readers: made when somebody looks, since most facts are replaced before anybody does."""
        if self._shown is None:
            self._shown = MappingProxyType({key: one.value for key, one in self.facts.items() if one.value})
        return self._shown

    def versions(self) -> dict[str, int]:
        return {key: fact.version for key, fact in self.facts.items()}

    def put(self, fact: Fact) -> Fact | None:
        """Keep a fact; the one up to which none is missing any more, if that is news."""
        self.facts[fact.key] = fact
        self._shown = None
        newest = self._newest
        if newest is None or fact.version > newest.version:
            newest = self._newest = fact
        if newest.version <= self.complete or fingerprint(self.versions()) != newest.table:
            return None
        self.complete = newest.version
        return newest


class FactStore:
    """The facts of every node, each in the boot that its owner is in. Bounded per node by count and size."""

    def __init__(self) -> None:
        self._tables: dict[NodeId, _Table] = {}
        self._prefixes: dict[bytes, NodeId] = {}
        self._namings: dict[NodeId, bytes] = {}
        self._own_words: dict[bytes, None] = {}
        self.version = 0

    def begin(self, node: NodeId, boot: int) -> bool:
        """Start an empty table for `node` unless it has one for `boot`; whether it did."""
        held = self._tables.get(node)
        if held is not None and held.boot == boot:
            return False
        self._tables[node] = _Table(boot)
        self._rename(node, _naming(node, boot, 0))
        self._prefixes.setdefault(node[:PREFIX_BYTES], node)
        self.version += 1
        return True

    def forget(self, node: NodeId) -> None:
        """Drop all that `node` said."""
        if self._tables.pop(node, None) is not None:
            self._own_words.pop(self._namings.pop(node), None)
            self.version += 1
            if self._prefixes.get(node[:PREFIX_BYTES]) == node:
                del self._prefixes[node[:PREFIX_BYTES]]

    def complete(self, node: NodeId) -> int:
        """The version up to which no fact of `node` is missing here."""
        held = self._tables.get(node)
        return held.complete if held else 0

    def outline(self, nodes: Iterable[NodeId]) -> list[bytes]:
        """How far the facts of these nodes, which have tables here, are known: encoded `OutlineEntry`s."""
        namings = self._namings
        return [namings[node] for node in nodes]

    def differing(self, entries: Iterable[bytes]) -> list[bytes]:
        """Those entries of an outline that this node would not write so itself."""
        own = self._own_words
        return [entry for entry in entries if entry not in own]

    def _rename(self, node: NodeId, naming: bytes) -> None:
        self._own_words.pop(self._namings.get(node, b""), None)
        self._own_words[naming] = None
        self._namings[node] = naming

    def named(self, entry: OutlineEntry) -> tuple[NodeId, int] | None:
        """Whose facts `entry` is about, and up to which version none is missing here; None if not of a boot known."""
        node = self._prefixes.get(entry.node)
        if node is None:
            return None
        held = self._tables[node]
        return (node, held.complete) if held.boot == entry.boot else None

    def is_news(self, header: FactHeader) -> bool:
        """Whether a fact with this header would change the store: right boot, later version."""
        held = self._tables.get(NodeId(header.node))
        if held is None or held.boot != header.boot:
            return False
        known = held.facts.get(header.key)
        return known is None or known.version < header.version

    def is_known_boot(self, header: FactHeader) -> bool:
        """Whether the header is of the boot that its owner is known to be in."""
        held = self._tables.get(NodeId(header.node))
        return held is not None and held.boot == header.boot

    def put(self, fact: Fact) -> bool:
        """Keep a checked fact that has its value and is news; False when its owner has too many keys."""
        held = self._tables[fact.node]
        if fact.key not in held.facts and len(held.facts) >= MAX_FACTS_PER_NODE:
            return False
        complete = held.put(fact)
        if complete is not None:
            self._rename(fact.node, complete.naming)
        self.version += 1
        return True

    def shown(self, node: NodeId) -> Mapping[str, bytes]:
        """The facts of `node` for readers: key → value, withdrawn ones left out."""
        held = self._tables.get(node)
        return held.shown if held else MappingProxyType({})

    def after(self, node: NodeId, version: int) -> list[Fact]:
        """Facts of `node` later than `version` and no later than what is complete here, in order."""
        held = self._tables.get(node)
        if held is None:
            return []
        later = [fact for fact in held.facts.values() if version < fact.version <= held.complete]
        return sorted(later, key=lambda fact: fact.version)

    def check(self, node: NodeId, key: str, value: bytes) -> None:
        """Raise ValueError when this fact of this node would break a bound."""
        held = self._tables[node]
        if not 1 <= len(key) <= 64:
            raise ValueError(f"a fact's key is 1 to 64 characters, got {key[:80]!r}")
        if len(value) > MAX_FACT_BYTES:
            raise ValueError(f"fact {key!r} is {len(value)} bytes; at most {MAX_FACT_BYTES} are allowed")
        if key not in held.facts and len(held.facts) >= MAX_FACTS_PER_NODE:
            raise ValueError(f"fact {key!r} would be one more than the {MAX_FACTS_PER_NODE} a node may publish")

    def next_header(self, node: NodeId, key: str, value: bytes) -> FactHeader:
        """The header of this node's own next fact, already checked."""
        held = self._tables[node]
        version = held.complete + 1
        table = fingerprint({**held.versions(), key: version})
        return FactHeader(node, held.boot, key, version, len(value), hashlib.sha256(value).digest(), table)


def read_system(node: NodeView) -> SystemFact | None:
    """The fact `sys` of a node in a view; None when it has none or a malformed one."""
    return _read(node, SYSTEM, SystemFact)


def read_gpu(node: NodeView) -> GpuFact | None:
    """The fact `gpu` of a node in a view; None when it has none or a malformed one."""
    return _read(node, GPU, GpuFact)


def _read(node: NodeView, key: str, kind: type[T]) -> T | None:
    value = node.facts.get(key)
    if value is None:
        return None
    try:
        return wire.decode(value, kind, peer=node.node, max_bytes=MAX_FACT_BYTES)
    except ProtocolError as error:
        logger.debug("ignoring fact %s: %s", key, error)
        return None
