"""Real agents that reach each other over bad ways only: a UDP relay stands before each one's port.

Each tells the mesh the relay's address in place of its own, so whoever dials it goes through.
They have no bulk lanes, which are TCP and would go around the relay: everything is over QUIC, bad way and all. For
lanes over bad ways, and for blocked TCP, tests/netns has a bridge.
"""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from meshd.local_agents import LocalAgent, LocalAgents
from transport.address import format_address
from transport.impairment import Conditions
from transport.interface import Address
from transport.relay import UdpRelay

HERE = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ImpairedAgents:
    """Starts agents as `agents` does. conditions: of every relay, in each direction."""

    agents: LocalAgents
    conditions: Conditions
    relays: list[UdpRelay] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def start(self, name: str, arguments: Sequence[str] = ()) -> AsyncIterator[LocalAgent]:
        """As `LocalAgents.start`."""
        async with contextlib.AsyncExitStack() as stack:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reserved:
                reserved.bind((HERE, 0))  # until the relay has a port of its own
                port: int = reserved.getsockname()[1]
                relay = UdpRelay(Address(HERE, port), self.conditions, self.conditions, seed=len(self.relays))
                await stack.enter_async_context(relay)
            self.relays.append(relay)
            # The relay passes UDP only: a bulk lane would go around it.
            told = ("--bind", f"{HERE}:{port}", "--advertise", format_address(relay.address), "--bulk", "off")
            yield await stack.enter_async_context(self.agents.start(name, [*told, *arguments]))

    def passed(self) -> int:
        """Packets that the relays let through so far."""
        return sum(line.impairment.passed for relay in self.relays for line in (relay.there, relay.back))

    def dropped(self) -> Counter[str]:
        """Packets that they lost, by cause."""
        lines = [line for relay in self.relays for line in (relay.there, relay.back)]
        return sum((line.impairment.dropped for line in lines), Counter())
