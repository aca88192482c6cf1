"""A reply whose end somebody waits for: a slot to free, a count to lower."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from llm.engines.interface import Headers, Reply


class WatchedReply:
    """A `Reply` that says once when it is closed. Its body is the engine's own, with nothing in between."""

    def __init__(self, reply: Reply, on_close: Callable[[], None]) -> None:
        self._reply = reply
        self._on_close = on_close
        self._is_closed = False

    @property
    def status(self) -> int:
        return self._reply.status

    @property
    def headers(self) -> Headers:
        return self._reply.headers

    def chunks(self) -> AsyncIterator[bytes]:
        return self._reply.chunks()

    async def close(self) -> None:
        """Close the reply, then say so, also when closing fails."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._reply.close()
        finally:
            self._on_close()
