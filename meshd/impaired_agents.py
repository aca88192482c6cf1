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
    """Starts agents as `agents` does. conditions: of every relay, in each direction.

    A name that is started again has its old addresses, so that the others find it there.
    """

    agents: LocalAgents
    conditions: Conditions
    relays: list[UdpRelay] = field(default_factory=list)
    ways: dict[str, UdpRelay] = field(default_factory=dict)
    """The relay before each agent's port, by name: the one that runs, or ran last."""
    _addresses: dict[str, Address] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def start(self, name: str, arguments: Sequence[str] = ()) -> AsyncIterator[LocalAgent]:
        """As `LocalAgents.start`."""
        async with contextlib.AsyncExitStack() as stack:
            relay = await self._relay(stack, name)
            self.relays.append(relay)
            self.ways[name] = relay
            self._addresses[name] = relay.address
            # The relay passes UDP only: a bulk lane would go around it.
            told = ("--bind", format_address(relay.upstream), "--advertise", format_address(relay.address))
            yield await stack.enter_async_context(self.agents.start(name, [*arguments, *told, "--bulk", "off"]))

    async def _relay(self, stack: contextlib.AsyncExitStack, name: str) -> UdpRelay:
        """Open a relay before a free port, or where that of the same agent was before."""
        seed, before = len(self.relays), self.ways.get(name)
        if before is not None:
            again = self._addresses[name]
            relay = UdpRelay(before.upstream, self.conditions, self.conditions, seed=seed, bind=again)
            return await stack.enter_async_context(relay)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reserved:
            reserved.bind((HERE, 0))  # until the relay has a port of its own
            port: int = reserved.getsockname()[1]
            relay = UdpRelay(Address(HERE, port), self.conditions, self.conditions, seed=seed)
            return await stack.enter_async_context(relay)

    def passed(self) -> int:
        """Packets that the relays let through so far."""
        return sum(line.impairment.passed for relay in self.relays for line in (relay.there, relay.back))

    def dropped(self) -> Counter[str]:
        """Packets that they lost, by cause."""
        lines = [line for relay in self.relays for line in (relay.there, relay.back)]
        return sum((line.impairment.dropped for line in lines), Counter())
