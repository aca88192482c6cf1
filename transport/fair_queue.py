"""A bounded queue that no single peer can fill for the others.

When it is full, whoever has the most waiting in it pays for what comes next; peers are served in turn.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Generic, TypeVar

from transport.interface import NodeId

T = TypeVar("T")


class Sacrifice(Enum):
    """Which of its items the peer with the most of them loses: OLDEST suits news, NEWEST suits work."""

    OLDEST = "oldest"
    NEWEST = "newest"


class FairQueue(Generic[T]):
    """Items by the peer they came from, at most `limit` in all."""

    def __init__(self, limit: int, sacrifice: Sacrifice) -> None:
        self._limit = limit
        self._sacrifice = sacrifice
        self._waiting: dict[NodeId, deque[T]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, node: NodeId, item: T) -> T | None:
        """Add `item` of `node`. Returns the item that had to go, perhaps this one."""
        self._waiting.setdefault(node, deque()).append(item)
        self._count += 1
        return self._give_up() if self._count > self._limit else None

    def take(self) -> T:
        """The oldest item of the peer whose turn it is. IndexError when there is none."""
        if not self._waiting:
            raise IndexError("take from an empty queue")
        node = next(iter(self._waiting))
        items = self._waiting.pop(node)
        item = items.popleft()
        self._count -= 1
        if items:
            self._waiting[node] = items  # behind the others
        return item

    def _give_up(self) -> T:
        greediest = max(self._waiting, key=lambda node: len(self._waiting[node]))
        items = self._waiting[greediest]
        self._count -= 1
        gone = items.popleft() if self._sacrifice is Sacrifice.OLDEST else items.pop()
        if not items:
            del self._waiting[greediest]
        return gone
