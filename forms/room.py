"""The memory that calls take: who is asked for it. The host's ledger gives it, for models and forms alike."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol


class Room(Protocol):
    """The memory of this host's devices."""

    def hold(self, device: str, size_bytes: int, deadline_s: float) -> AbstractAsyncContextManager[None]:
        """Hold so much of "cpu" or "cuda:0" while it lasts; waits for it until `deadline_s`. Raises Busy."""


class EndlessRoom:
    """Room that is never short: for hosts where nothing else wants memory, and for tests."""

    def hold(self, device: str, size_bytes: int, deadline_s: float) -> AbstractAsyncContextManager[None]:
        return nullcontext()
