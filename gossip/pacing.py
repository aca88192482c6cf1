"""How often this node may say the same thing anew, so that bytes per node stay bounded as the mesh grows."""

from __future__ import annotations


def least_interval_s(nodes: int) -> float:
    """How far apart changes of one key are in a mesh of `nodes`: 2 s at 10, 10 s at 200 and beyond."""
    if nodes <= 10:
        return 0.2 * nodes
    return min(10.0, 2.0 + 8.0 * (nodes - 10) / 190)


class Pacer:
    """Holds updates back that come too soon after the last of their key; a later one replaces them."""

    def __init__(self) -> None:
        self._said_at: dict[str, float] = {}
        self._held: dict[str, tuple[bytes, bool]] = {}

    def admit(
        self, key: str, value: bytes, nodes: int, now: float, *, is_urgent: bool = False, is_quiet: bool = False
    ) -> bool:
        """Whether to say this now; otherwise it is held for `due`, as quiet as all that it replaces."""
        said_at = self._said_at.get(key)
        if is_urgent or said_at is None or now - said_at >= least_interval_s(nodes):
            self._said_at[key] = now
            self._held.pop(key, None)
            return True
        self._held[key] = (value, is_quiet and self._held.get(key, (b"", True))[1])
        return False

    def __bool__(self) -> bool:
        """Whether an update is held."""
        return bool(self._held)

    def due(self, nodes: int, now: float) -> list[tuple[str, bytes, bool]]:
        """Updates whose time has come: key, value, whether quiet."""
        if not self._held:
            return []
        interval_s = least_interval_s(nodes)
        ready = [key for key in self._held if now - self._said_at[key] >= interval_s]
        self._said_at.update(dict.fromkeys(ready, now))
        return [(key, *self._held.pop(key)) for key in ready]
