"""An owner's endpoint that serves every protocol there is, and notes who got as far as being served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from meshd.dispatch import Dispatch
from meshd.permission import OPENERS
from tests.transport.quic_mesh import LiveMesh, live_mesh, start
from transport.interface import NodeId, Record, RecordKind, Stream
from transport.quic import QuicOptions, QuicTransport

PROTOCOLS = sorted(OPENERS)


@dataclass
class House:
    """served: protocol and node of each stream that reached its service.  ended: of those, which failed, and how."""

    mesh: LiveMesh
    owner: QuicTransport
    served: list[tuple[str, NodeId]] = field(default_factory=list)
    ended: list[BaseException] = field(default_factory=list)

    async def serve(self, stream: Stream) -> None:
        """Say so, and stay until the peer has finished."""
        self.served.append((stream.header.protocol, stream.peer.node))
        try:
            await stream.send(Record(RecordKind.MESSAGE, b"served"))
            while await stream.receive() is not None:
                pass
            await stream.finish()
        except Exception as error:
            self.ended.append(error)
            raise


@asynccontextmanager
async def open_house(seed: int = 1) -> AsyncIterator[House]:
    mesh = live_mesh(seed)
    everything_is_ours = QuicOptions(bulk=False)  # else the transport serves bulk/1 before anybody here sees it
    async with start(mesh.owner_now(), options=everything_is_ours) as owner, asyncio.TaskGroup() as group:
        house = House(mesh, owner)
        dispatch = Dispatch(dict.fromkeys(PROTOCOLS, house.serve))
        serving = group.create_task(dispatch.run(owner), name="dispatch")
        yield house
        serving.cancel()
