"""What an engine does not show to the layers above, and the simulator measures: the one place that looks inside."""

from __future__ import annotations

from collections.abc import Mapping

from gossip.engine import Engine
from gossip.roster import Member
from gossip.view import Status
from transport.interface import NodeId


def status(engine: Engine, node: NodeId) -> Status | None:
    """What this node thinks of another, without drawing a whole view."""
    member = engine._knowledge.roster.get(node)
    return member.status if member is not None else None


def members(engine: Engine) -> list[Member]:
    """Every entry of its roster."""
    return engine._knowledge.roster.members()


def facts(engine: Engine, node: NodeId) -> Mapping[str, bytes]:
    """What it knows that `node` says of itself."""
    return engine._knowledge.facts.shown(node)


def rumours_waiting(engine: Engine) -> int:
    """How many rumours it still wants to tell."""
    return len(engine._knowledge.rumours)


def highest_boot(engine: Engine, node: NodeId) -> int:
    """The latest start of `node` that it has heard of, as its handshake would tell that node; 0 for none."""
    member = engine._knowledge.roster.get(node)
    return member.record.boot if member is not None else 0


def was_linked(engine: Engine, node: NodeId) -> bool:
    """Whether it has had a connection with what it knows as the latest start of `node`."""
    member = engine._knowledge.roster.get(node)
    return member is not None and member.was_linked
