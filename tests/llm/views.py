"""Views of small meshes, written down by hand."""

from __future__ import annotations

from collections.abc import Sequence

from gossip.view import NodeView, Status, View
from llm.offer import MODELS_FACT, Offer, encode_offers
from transport.interface import NodeId, Role

FILE_A = "a" * 64
FILE_B = "b" * 64


def node_id(number: int) -> NodeId:
    return NodeId(bytes([number]) * 32)


def offer(
    name: str = "tiny",
    *,
    fingerprint: str = FILE_A,
    digest: str = "",
    state: str = "ready",
    reason: str = "",
    slots: int = 4,
    in_flight: int = 0,
) -> Offer:
    """An offer whose every field is legal."""
    return Offer(name, fingerprint, digest, "echo", "solo", state, reason, 4096, slots, in_flight, 0.0)  # type: ignore[arg-type]


def node(
    number: int,
    offers: Sequence[Offer] = (),
    *,
    status: Status = Status.ALIVE,
    role: Role = Role.MEMBER,
    rtt_ms: float | None = 1.0,
    linked: bool = True,
    fact: bytes | None = None,
) -> NodeView:
    """A node named n1, n2, … with the offers given. fact: instead of a well-formed one."""
    facts = {MODELS_FACT: fact if fact is not None else encode_offers(offers)} if offers or fact is not None else {}
    return NodeView(node_id(number), f"n{number}", role, status, 1, 0, (), facts, rtt_ms, linked, 60.0)


def view(*nodes: NodeView) -> View:
    """The first node's view."""
    return View(1, nodes)
