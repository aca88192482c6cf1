"""A real TCP echo server on loopback, for tunnels to be connected to."""

from __future__ import annotations

import asyncio
import socket

from tests.transport.tunnels import echo
from transport.interface import Address
from transport.pipe import SocketPipe
from transport.tunnel_server import TunnelRequest


class TcpEcho:
    """accepted: how many connections it ever had.  broken: how many of them were reset."""

    def __init__(self) -> None:
        self.accepted = 0
        self.broken = 0
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> TcpEcho:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        await self._group.__aenter__()
        self._accepting = self._group.create_task(self._accept())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._accepting.cancel()
        await self._group.__aexit__(None, None, None)
        self._socket.close()

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self._socket.getsockname()[1])

    async def admit(self, request: TunnelRequest) -> Address:
        """Let everybody in."""
        return self.address

    async def _accept(self) -> None:
        while True:
            accepted, _ = await asyncio.get_running_loop().sock_accept(self._socket)
            accepted.setblocking(False)
            self.accepted += 1
            self._group.create_task(self._serve(SocketPipe(accepted)))

    async def _serve(self, pipe: SocketPipe) -> None:
        try:
            await echo(pipe)
        except ConnectionError:
            self.broken += 1
        pipe.close()
