"""The highest (term, host) that a node has granted or claimed, for each resource: it never goes back below.

Bounded: of more than `MAX_FENCES` resources, the one that was raised longest ago gives up its place to `floor`, the
least term that any resource without an entry has to exceed. So nothing is forgotten, only rounded up, and a
claimant that is refused for it steps up. How the book gets to disk is `fence_book`'s business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

import msgspec

from gossip.lease import Resource, Term
from transport import wire
from transport.errors import ProtocolError
from transport.interface import NodeId
from transport.wire import Bytes32, Counter

MAX_FENCES = 256
MAX_FILE_BYTES = 128 * 1024
_DIGEST_BYTES = 32
NOBODY = NodeId(b"")


class FenceEntry(msgspec.Struct, frozen=True, array_like=True):
    """One resource's fence."""

    resource: Resource
    term: Term
    host: Bytes32


class FenceFile(msgspec.Struct, frozen=True):
    """The file `fences`, after the SHA-256 of what follows. fences: raised longest ago first."""

    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    floor: Counter
    fences: Annotated[tuple[FenceEntry, ...], msgspec.Meta(max_length=MAX_FENCES)]


@dataclass(frozen=True, slots=True)
class Fence:
    """Nothing below `term`, and in `term` only `host`."""

    term: int
    host: NodeId

    def admits(self, term: int, host: NodeId) -> bool:
        return term > self.term or (term == self.term and host == self.host)


class Fences:
    """Every fence of one node. version: grows with every change."""

    def __init__(self, floor: int = 0, entries: Collection[FenceEntry] = ()) -> None:
        self.floor = floor
        self.version = 0
        self._held = {entry.resource: Fence(entry.term, NodeId(entry.host)) for entry in entries}

    @classmethod
    def decode(cls, data: bytes, source: str) -> Fences:
        """Read a file's bytes. Raises ProtocolError when they are not exactly what `encode` wrote."""
        digest, body = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != digest:
            raise ProtocolError(f"{source}: its checksum does not match, so it is not whole")
        file = wire.decode(body, FenceFile, peer=None, max_bytes=MAX_FILE_BYTES, source=source)
        return cls(file.floor, file.fences)

    def encode(self) -> bytes:
        """The file's bytes."""
        entries = tuple(FenceEntry(resource, fence.term, fence.host) for resource, fence in self._held.items())
        body = wire.encode(FenceFile(1, self.floor, entries))
        return hashlib.sha256(body).digest() + body

    def __contains__(self, resource: str) -> bool:
        return resource in self._held

    def __len__(self) -> int:
        return len(self._held)

    @property
    def resources(self) -> frozenset[str]:
        return frozenset(self._held)

    def get(self, resource: str) -> Fence:
        """What a claimant of `resource` has to exceed."""
        return self._held.get(resource) or Fence(self.floor, NOBODY)

    def raise_to(self, resource: str, term: int, host: NodeId, in_use: Collection[str] = ()) -> bool:
        """Raise a fence that admits this; whether it changed. in_use: resources that keep their own entry.

        ValueError for what it does not admit, and when all entries are in use.
        """
        fence = self.get(resource)
        if not fence.admits(term, host):
            raise ValueError(f"the fence of {resource!r} stands at term {fence.term}, above {term}")
        if self._held.get(resource) == Fence(term, host):
            return False
        if resource not in self._held and len(self._held) >= MAX_FENCES:
            self._give_up_oldest(in_use)
        self._held.pop(resource, None)
        self._held[resource] = Fence(term, host)
        self.version += 1
        return True

    def _give_up_oldest(self, in_use: Collection[str]) -> None:
        oldest = next((resource for resource in self._held if resource not in in_use), None)
        if oldest is None:
            raise ValueError(f"all {MAX_FENCES} fences are in use")
        self.floor = max(self.floor, self._held.pop(oldest).term)
