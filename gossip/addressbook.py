"""Where the mesh's nodes were last found, kept on disk so that a restart needs no introducer.

A file of mode 0600, replaced as a whole: a crash leaves the old one or the new one. A damaged book is put
aside and the node starts without one; it is advice, never proof.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from transport.address import format_address, parse_address
from transport.identity import node_text, parse_node_text
from transport.interface import Address, NodeId
from transport.whole_file import replace_file

logger = logging.getLogger("meshd.gossip")

MAX_BYTES = 1 << 20
MAX_NODES = 256
FORGET_S = 100 * 86400.0
"""Longer than a mesh lives without its root key (90 days), so that an owner who comes back finds what is left of it."""

Places = Mapping[NodeId, tuple[Address, ...]]


class _Entry(msgspec.Struct, frozen=True):
    """A node as the file spells it. seen_unix: when it was last in the mesh."""

    node: str
    addresses: tuple[str, ...]
    seen_unix: float


class _Book(msgspec.Struct, frozen=True):
    version: int
    nodes: tuple[_Entry, ...]


class AddressBook:
    """One file of known addresses. unix_time: the wall clock, for forgetting nodes unseen for `FORGET_S`."""

    def __init__(self, path: Path, unix_time: Callable[[], float]) -> None:
        self._path = path
        self._unix_time = unix_time
        self._seen: dict[NodeId, float] = {}

    def load(self) -> dict[NodeId, tuple[Address, ...]]:
        """Every node still worth dialling, last seen first. Empty when there is no readable book."""
        try:
            entries = self._read()
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            self._put_aside(error)
            return {}
        now = self._unix_time()
        fresh = [entry for entry in entries if now - entry[2] < FORGET_S][:MAX_NODES]
        self._seen = {node: seen for node, _, seen in fresh}
        return {node: addresses for node, addresses, _ in fresh}

    def save(self, places: Places, present: Iterable[NodeId]) -> None:
        """Replace the book. present: nodes that are in the mesh now. Raises OSError."""
        now = self._unix_time()
        self._seen.update(dict.fromkeys(present, now))
        entries = [
            _Entry(node_text(node), tuple(map(format_address, addresses)), self._seen.setdefault(node, now))
            for node, addresses in places.items()
        ]
        entries.sort(key=lambda entry: (-entry.seen_unix, entry.node))
        book = _Book(1, tuple(entries[:MAX_NODES]))
        replace_file(self._path, json.dumps(msgspec.to_builtins(book), indent=1).encode())

    def _read(self) -> list[tuple[NodeId, tuple[Address, ...], float]]:
        with self._path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES} bytes")
        book = msgspec.json.decode(data, type=_Book)
        if book.version != 1:
            raise ValueError(f"expected version 1, got {book.version}")
        return [
            (parse_node_text(entry.node), tuple(map(parse_address, entry.addresses)), entry.seen_unix)
            for entry in book.nodes
        ]

    def _put_aside(self, error: Exception) -> None:
        aside = self._path.with_suffix(".damaged")
        logger.warning("cannot read the address book %s (%s); put aside as %s", self._path, error, aside.name)
        with suppress(OSError):
            self._path.replace(aside)
