"""Hands each stream that a peer opened to whatever serves its protocol, and fences what goes wrong with it.

A peer's mistake ends that stream and is counted; anything else is a bug of ours and ends the agent loudly.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from meshd.logs import during_request
from meshd.permission import OPENERS, may_open
from transport.errors import MeshError, ProtocolError, ResetCode
from transport.identity import short
from transport.interface import Stream, Transport

logger = logging.getLogger("meshd.dispatch")

Serve = Callable[[Stream], Awaitable[None]]


class Dispatch:
    """Routes incoming streams by the protocol in their header. offences: counted by peer, short form."""

    def __init__(self, services: Mapping[str, Serve]) -> None:
        """ValueError for a service that `permission` opens to nobody."""
        if unlisted := services.keys() - OPENERS.keys():
            raise ValueError(f"nobody may open {', '.join(sorted(unlisted))}: say in meshd.permission who may")
        self._services = services
        self.offences: Counter[str] = Counter()

    async def run(self, transport: Transport) -> None:
        """Serve every incoming stream until cancelled."""
        async with asyncio.TaskGroup() as group:
            async for stream in transport.streams():
                group.create_task(self._serve(stream), name=f"{stream.header.protocol} of {short(stream.peer.node)}")

    async def _serve(self, stream: Stream) -> None:
        serve = self._services.get(stream.header.protocol)
        if serve is None:
            self._refuse(stream, ResetCode.UNKNOWN_PROTOCOL)
        elif not may_open(stream.peer.role, stream.header.protocol):
            self._refuse(stream, ResetCode.FORBIDDEN)
        else:
            request_id = stream.header.request_id
            with during_request(request_id) if request_id else contextlib.nullcontext():
                await self._fenced(stream, serve)

    def _refuse(self, stream: Stream, code: ResetCode) -> None:
        logger.info("refused %s of %s: %s", stream.header.protocol[:32], short(stream.peer.node), code.name.lower())
        stream.reset(code)

    async def _fenced(self, stream: Stream, serve: Serve) -> None:
        peer = short(stream.peer.node)
        try:
            await serve(stream)
        except ProtocolError as error:
            self.offences[peer] += 1
            stream.reset(ResetCode.PROTOCOL_ERROR)
            logger.warning("peer %s broke the protocol (%d so far): %s", peer, self.offences[peer], error)
        except MeshError as error:
            stream.reset(ResetCode.CANCELLED)
            logger.debug("stream of %s ended: %s", peer, error)
