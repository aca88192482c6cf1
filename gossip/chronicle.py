"""Tells the log the story of the mesh: one line for each change of a member that a person would care about."""

from __future__ import annotations

import logging

from gossip.roster import Member
from gossip.view import Status
from transport.identity import short
from transport.interface import NodeId

logger = logging.getLogger("meshd.gossip")


class Chronicle:
    """Remembers how each member last stood, so that only changes are told."""

    def __init__(self) -> None:
        self._told: dict[NodeId, Status] = {}

    def note(self, member: Member) -> None:
        """Tell how `member` stands now, unless that has been told."""
        before = self._told.get(member.node)
        if before is member.status:
            return
        self._told[member.node] = member.status
        logger.info("%s (%s) %s", member.record.name, short(member.node), _words(member, before))

    def forget(self, node: NodeId) -> None:
        """Let go of a member that is no longer known."""
        self._told.pop(node, None)


def _words(member: Member, before: Status | None) -> str:
    accuser = short(member.accuser) if member.accuser is not None else "nobody"
    match member.status:
        case Status.ALIVE if before is None:
            return "is in the mesh"
        case Status.ALIVE if before is Status.SUSPECT:
            return "has answered"
        case Status.ALIVE:
            return "is back"
        case Status.SUSPECT:
            return f"does not answer, says {accuser}"
        case Status.DEAD:
            return f"counts as dead, says {accuser}"
        case Status.LEFT:
            return "has left"
