"""Compares this host's clock with those of other members, on `clock/1`: each end says what time it is.

For `meshd doctor`, when it is asked: certificates and tokens begin and end by the clocks of those who judge them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from gossip.view import NodeView, View
from meshd.control import Command
from transport import wire
from transport.errors import MeshError
from transport.identity import short
from transport.interface import Peer, Role, Stream, StreamHeader
from transport.question import Opener, ask, serve_question

logger = logging.getLogger("meshd.clocks")

PROTOCOL = "clock/1"
DEADLINE_S = 3.0
MAX_MESSAGE_BYTES = 64
MOST_ASKED = 8
"""Whose clock is wrong shows among fewer."""


class ClockReading(msgspec.Struct, frozen=True):
    """What time it is for who says so, in unix seconds."""

    unix_s: Annotated[float, msgspec.Meta(ge=0, lt=1e12)]


@dataclass(frozen=True, slots=True)
class Clocks:
    """Asks and answers. unix_time: this host's clock.  monotonic: what a round trip takes is measured by."""

    transport: Opener
    view: Callable[[], View]
    unix_time: Callable[[], float]
    monotonic: Callable[[], float] = field(default=time.monotonic)

    async def serve(self, stream: Stream) -> None:
        """Answer one `clock/1` stream. Raises MeshError for what goes wrong with it."""
        await serve_question(stream, self._answer, DEADLINE_S, MAX_MESSAGE_BYTES)

    def table(self) -> dict[str, Command]:
        """The control command by its name."""
        return {"clocks": self._clocks}

    async def _answer(self, asker: Peer, question: bytes) -> bytes:
        wire.decode(question, ClockReading, peer=asker.node, max_bytes=MAX_MESSAGE_BYTES)
        return self._now()

    def _now(self) -> bytes:
        return wire.encode(ClockReading(self.unix_time()))

    async def _clocks(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """How far others' clocks are ahead of this one, give or take half a round trip. The silent are left out."""
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(self._ahead(node), name=f"clock of {node.name}") for node in self._others()]
        return {"clocks": [answer for task in asked if (answer := task.result()) is not None]}

    def _others(self) -> Sequence[NodeView]:
        members = [node for node in self.view().nodes[1:] if node.linked and node.is_usable]
        return [node for node in members if node.role is not Role.CLIENT][:MOST_ASKED]

    async def _ahead(self, node: NodeView) -> dict[str, Any] | None:
        header = StreamHeader(PROTOCOL, "", int(1000 * DEADLINE_S))
        began = self.monotonic()
        try:
            answer = await ask(self.transport, node.node, header, self._now(), MAX_MESSAGE_BYTES)
            round_trip_s = self.monotonic() - began
            theirs = wire.decode(answer, ClockReading, peer=node.node, max_bytes=MAX_MESSAGE_BYTES).unix_s
        except MeshError as error:
            logger.info("node %s did not say what time it is: %s", short(node.node), error)
            return None
        ahead_s = theirs - (self.unix_time() - round_trip_s / 2)
        return {"name": node.name, "ahead_s": round(ahead_s, 3), "within_s": round(round_trip_s / 2, 3)}
