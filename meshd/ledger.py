"""One book of this host's memory for models and forms alike: who has reserved what, and what is left. Pure.

Everything that will allocate reserves first, so two launches that race never count on the same bytes. What other
programs hold is told by whoever reads it from the driver; ours is counted once, by its reservation.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from llm.residency import UNKNOWN_MAKEUP, Makeup, NoRoom, Reservation

GB = 1e9


@dataclass(frozen=True, slots=True)
class Account:
    """One device. kind: "cuda" or "cpu".  total_bytes: what this node offers of it."""

    name: str
    kind: str
    total_bytes: int


@dataclass(slots=True)
class Ledger:
    """The memory of one host. accounts: its devices."""

    accounts: Sequence[Account]
    _others: tuple[int, ...] = ()
    _held: dict[int, Reservation] = field(default_factory=dict)
    _taken_over: set[int] = field(default_factory=set)

    @property
    def reservations(self) -> tuple[Reservation, ...]:
        """What is reserved, oldest first."""
        return tuple(self._held.values())

    @property
    def free_bytes(self) -> int:
        """What could be reserved now, on all devices together."""
        return sum(self.free_by_device)

    @property
    def free_by_device(self) -> tuple[int, ...]:
        """What could be reserved now of each device."""
        held = _sum_by_device(self._held.values(), len(self.accounts))
        return tuple(
            max(0, account.total_bytes - other - ours)
            for account, other, ours in zip(self.accounts, self._others_by_device, held, strict=True)
        )

    @property
    def reserved_by_device(self) -> tuple[int, ...]:
        """What is reserved of each device for what this node runs itself; not what it took over of other programs."""
        own = [one for key, one in self._held.items() if key not in self._taken_over]
        return _sum_by_device(own, len(self.accounts))

    @property
    def _others_by_device(self) -> tuple[int, ...]:
        """What other programs hold, but for those whose memory was taken over."""
        others = self._others or (0,) * len(self.accounts)
        known = [self._held[key].parts for key in self._taken_over]
        return tuple(max(0, other - sum(parts[number] for parts in known)) for number, other in enumerate(others))

    def reconcile(self, others_bytes: Sequence[int]) -> None:
        """Take over what other programs hold of each device; more than a device has counts as all of it."""
        if len(others_bytes) != len(self.accounts):
            raise ValueError(f"expected {len(self.accounts)} devices, got {len(others_bytes)}")
        self._others = tuple(max(0, held) for held in others_bytes)

    def reserve(self, holder: str, need_bytes: int, makeup: Makeup = UNKNOWN_MAKEUP) -> Reservation:
        """Hold `need_bytes` for `holder`: on one device where it fits, the fullest such, else spread by what is free.

        Raises NoRoom with the arithmetic; then nothing has changed.
        """
        free = self.free_by_device
        if need_bytes > sum(free):
            raise NoRoom(f"{holder} needs {need_bytes / GB:.2f} GB; {self._arithmetic()}")
        fitting = [number for number, left in enumerate(free) if left >= need_bytes]
        parts = [0] * len(free)
        if fitting:
            parts[min(fitting, key=lambda number: free[number])] = need_bytes
        else:
            parts = _spread(need_bytes, free)
        reservation = Reservation(holder, tuple(parts), makeup)
        self._held[id(reservation)] = reservation
        return reservation

    def reserve_on(self, number: int, holder: str, need_bytes: int, makeup: Makeup = UNKNOWN_MAKEUP) -> Reservation:
        """Hold `need_bytes` of one device. Raises NoRoom; then nothing has changed."""
        left = self.free_by_device[number]
        if need_bytes > left:
            name = self.accounts[number].name
            wants = f"{holder} needs {need_bytes / GB:.2f} GB of {name}, where {left / GB:.2f} GB are left"
            raise NoRoom(f"{wants}; {self._arithmetic()}")
        parts = [0] * len(self.accounts)
        parts[number] = need_bytes
        reservation = Reservation(holder, tuple(parts), makeup)
        self._held[id(reservation)] = reservation
        return reservation

    def take_over(self, holder: str, held_bytes: int) -> Reservation:
        """Hold for `holder` what it has in use already: first of what other programs hold, the rest of what is free.

        Never refused, since it is so.
        """
        others, left = self._others_by_device, held_bytes
        parts = [0] * len(self.accounts)
        for room in (others, self.free_by_device):
            spread = _spread(min(left, sum(room)), room)
            parts = [part + more for part, more in zip(parts, spread, strict=True)]
            left -= sum(spread)
        parts[0] += left
        reservation = Reservation(holder, tuple(parts))
        self._held[id(reservation)] = reservation
        self._taken_over.add(id(reservation))
        return reservation

    def release(self, reservation: Reservation) -> None:
        """Give it back. Twice is an error: KeyError."""
        del self._held[id(reservation)]
        self._taken_over.discard(id(reservation))

    def _arithmetic(self) -> str:
        total = sum(account.total_bytes for account in self.accounts)
        others = sum(self._others_by_device)
        held = ", ".join(f"{one.holder} {one.total_bytes / GB:.2f} GB" for one in self._held.values()) or "nothing"
        return (
            f"of {total / GB:.2f} GB other programs hold {others / GB:.2f} GB and this node has reserved "
            f"{held}, which leaves {self.free_bytes / GB:.2f} GB"
        )


def _sum_by_device(reservations: Collection[Reservation], devices: int) -> tuple[int, ...]:
    return tuple(sum(one.parts[number] for one in reservations) for number in range(devices))


def _spread(need_bytes: int, free: Sequence[int]) -> list[int]:
    """Shares of `need_bytes` in proportion to what is free; their sum is exact and none exceeds its device."""
    parts, left, room = [], need_bytes, sum(free)
    for available in free:
        part = min(available, -(-left * available // room)) if room else 0
        parts.append(part)
        left -= part
        room -= available
    return parts
