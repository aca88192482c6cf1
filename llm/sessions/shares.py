"""Who gets how many rows of the next batch. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def share_rows(needs: Sequence[int], room: int) -> list[int]:
    """Rows for each of those who need `needs`: the modest get all, the others an equal share of what is left.

    So that a long prompt that is read makes nobody's answer wait.
    """
    shares = [0] * len(needs)
    order = sorted(range(len(needs)), key=lambda index: needs[index])
    for place, index in enumerate(order):
        shares[index] = min(needs[index], room // (len(order) - place))
        room -= shares[index]
    return shares
