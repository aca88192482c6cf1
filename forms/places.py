"""The places that a call can go to from here: this node, nodes of the mesh, workers that are in no mesh. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gossip.facts import read_gpu
from gossip.view import NodeView, View
from transport.address import format_address
from transport.identity import node_text
from transport.interface import Address, NodeId

LEAST_PREFIX = 6


@dataclass(frozen=True, slots=True)
class Place:
    """node: of the mesh.  address: of a foreign worker.  Neither: here."""

    node: NodeId | None = None
    address: Address | None = None

    @property
    def is_here(self) -> bool:
        """Whether it is this very node."""
        return self.node is None and self.address is None


HERE = Place()


def place_name(place: Place, view: View) -> str:
    """What people call it."""
    if place.address is not None:
        return format_address(place.address)
    entry = view.get(place.node) if place.node is not None else view.me
    return entry.name if entry is not None else "a node that has gone"


def find_place(word: str, view: View, foreign: tuple[Address, ...]) -> Place | None:
    """The place that a person means: `here`, a node by its name or the beginning of its id, a worker by its address."""
    if word in ("here", view.me.name):
        return HERE
    for address in foreign:
        if word == format_address(address):
            return Place(address=address)
    by_name = [entry for entry in view.nodes if entry.name == word]
    by_id = [entry for entry in view.nodes if len(word) >= LEAST_PREFIX and node_text(entry.node).startswith(word)]
    meant = by_name or by_id
    if len(meant) != 1:
        return None
    return HERE if meant[0] is view.me else Place(node=meant[0].node)


def free_vram(entry: NodeView) -> int:
    """Bytes of its GPUs that are free, as it says."""
    fact = read_gpu(entry)
    return sum(device.free_bytes for device in fact.devices if device.kind == "cuda") if fact is not None else 0
