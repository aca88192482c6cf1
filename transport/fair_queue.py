"""A bounded queue that no single peer, or caller, can fill for the others.

When it is full, whoever has the most waiting in it pays for what comes next; all are served in turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")


class Sacrifice(Enum):
    """Which of its items whoever has the most of them loses: OLDEST suits news, NEWEST suits work."""

    OLDEST = "oldest"
    NEWEST = "newest"


class FairQueue(Generic[T]):
    """Items by whom they came from, at most `limit` in all."""

    def __init__(self, limit: int, sacrifice: Sacrifice) -> None:
        self._limit = limit
        self._sacrifice = sacrifice
        self._waiting: dict[Hashable, deque[T]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def has_room(self, key: Hashable) -> bool:
        """Whether an item of `key` put now would stay."""
        if self._count < self._limit:
            return True
        mine = len(self._waiting.get(key, ()))
        return any(len(items) > mine + 1 for items in self._waiting.values())

    def put(self, key: Hashable, item: T) -> T | None:
        """Add `item` of `key`. Returns the item that had to go, perhaps this one."""
        self._waiting.setdefault(key, deque()).append(item)
        self._count += 1
        return self._give_up() if self._count > self._limit else None

    def take(self) -> T:
        """The oldest item of the one whose turn it is. IndexError when there is none."""
        if not self._waiting:
            raise IndexError("take from an empty queue")
        key = next(iter(self._waiting))
        items = self._waiting.pop(key)
        item = items.popleft()
        self._count -= 1
        if items:
            self._waiting[key] = items  # behind the others
        return item

    def discard(self, key: Hashable, item: T) -> bool:
        """Take `item` of `key` out of turn; whether it was here."""
        items = self._waiting.get(key)
        if items is None or item not in items:
            return False
        items.remove(item)
        self._count -= 1
        if not items:
            del self._waiting[key]
        return True

    def _give_up(self) -> T:
        greediest = max(self._waiting, key=lambda key: len(self._waiting[key]))
        items = self._waiting[greediest]
        self._count -= 1
        gone = items.popleft() if self._sacrifice is Sacrifice.OLDEST else items.pop()
        if not items:
            del self._waiting[greediest]
        return gone
