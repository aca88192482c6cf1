"""Tells a client that waits for a stream what it waits for: SSE comments, which every client's library skips.

Once the first one is out, the status is given away: what goes wrong after that is an event of the stream.
"""

from __future__ import annotations

import asyncio
from typing import Never

from starlette.types import Send

from llm.engines.interface import Headers
from meshd.http_exchange import send_body, send_head

PATIENCE_S = 2.0
"""What is over sooner is answered with a status of its own."""
INTERVAL_S = 2.0


class Progress:
    """One exchange's wait. headers: of the answer, should it have to begin early."""

    def __init__(self, send: Send, headers: Headers) -> None:
        self.has_begun = False
        self._send = send
        self._headers = (("content-type", "text/event-stream"), ("cache-control", "no-cache"), *headers)
        self._text = ""
        self._noted = asyncio.Event()

    def note(self, text: str) -> None:
        """There is a wait, and this is what it is for."""
        self._text = text
        self._noted.set()

    async def tell(self) -> Never:
        """Tell until cancelled; says nothing unless something was noted and took its time."""
        await self._noted.wait()
        await asyncio.sleep(PATIENCE_S)
        while True:
            if not self.has_begun:
                self.has_begun = True
                await send_head(self._send, 200, self._headers)
            words = " ".join(self._text.split())
            await send_body(self._send, f": {words}\n\n".encode(), more=True)
            await asyncio.sleep(INTERVAL_S)
