"""Processes of their own at the two ends of a tunnel, to be put on other hosts.

    python -m tests.transport.tunnel_process serve BIND BULK                   an echo service; prints its port
    python -m tests.transport.tunnel_process echo BIND BULK SERVER BYTES       sends so many bytes through it

The second prints how many bytes have come back whenever more have, and at the end one line of JSON. So does the first
when its input ends. BULK is on or off. The two are owner and member of one mesh, which both derive from the same seed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from tests.transport.quic_mesh import is_connected, live_mesh, start
from tests.transport.tcp_echo import TcpEcho
from tests.transport.tunnels import echoed
from transport.address import parse_address
from transport.errors import MeshError
from transport.interface import Stream
from transport.pipe import connect
from transport.quic import QuicOptions
from transport.tunnel import Destination, TunnelClient
from transport.tunnel_server import TunnelServer

CONNECT_S = 30.0


async def serve(bind: str, bulk: str) -> None:
    endings: list[str] = []

    async def serve_one(stream: Stream) -> None:
        try:
            await server.serve(stream)
        except MeshError as error:
            endings.append(type(error).__name__)

    async with (
        TcpEcho() as service,
        start(live_mesh().owner_now(), parse_address(bind), QuicOptions(bulk=bulk == "on")) as transport,
        asyncio.TaskGroup() as group,
    ):
        server = TunnelServer(transport.board)

        async def serve_all() -> None:
            async for stream in transport.streams():
                group.create_task(serve_one(stream))

        with server.offer("echo", service.admit):
            serving = group.create_task(serve_all())
            print(transport.addresses[0].port, flush=True)
            await asyncio.to_thread(sys.stdin.read)
            while server.tunnels:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.05)
        say(accepted=service.accepted, broken=service.broken, endings=endings)
        serving.cancel()


async def send(bind: str, bulk: str, server: str, total: str) -> None:
    mesh = live_mesh()
    async with start(mesh.member_now(), parse_address(bind), QuicOptions(bulk=bulk == "on")) as transport:
        transport.keep(mesh.owner.node, (parse_address(server),))
        async with asyncio.timeout(CONNECT_S):
            while not is_connected(transport, mesh.owner.node):  # noqa: ASYNC110 - its events are nobody's here
                await asyncio.sleep(0.01)
        async with TunnelClient(transport).listen(Destination(mesh.owner.node, "echo")) as listener:
            app = await connect(listener.address)
            is_whole = False
            try:
                is_whole = await echoed(app, int(total), lambda count: print(count, flush=True))
            except* ConnectionResetError:
                pass  # what the listener says of it is printed
            app.close()
            while listener.tunnels:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.01)
            say(is_whole=is_whole, failures=dict(listener.failures), carrier=transport.links()[0].carrier)


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    asyncio.run(serve(*arguments) if role == "serve" else send(*arguments))
