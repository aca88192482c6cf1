"""How much of a draft stands: what plain decoding would have said too, and one token more. Pure.

One decode of `[last] + draft` gives a row for each of them, and row i says what follows the first i drafted tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def accept(draft: Sequence[int], argmax: Sequence[int]) -> int:
    """How many tokens of `draft` plain decoding would have given. argmax: of its rows, one more than `draft`."""
    count = 0
    while count < len(draft) and draft[count] == argmax[count]:
        count += 1
    return count


@dataclass(frozen=True, slots=True)
class Verdict:
    """accepted: tokens of the draft that stand.  following: the token after them; None where that is to be decoded
    again, alone.
    """

    accepted: int
    following: int | None


def settle(draft: Sequence[int], argmax: Sequence[int], margins: Sequence[float], least_margin: float) -> Verdict:
    """What stands of `draft` when a choice closer than `least_margin` may have been another one in a batch of one.

    margins: best minus second best logit, a row each.  least_margin: 0 trusts every row, which is right for quantised
    weights with flash attention (0 of 60 runs differed; without it 11 of 60).  Without a draft every row is trusted.
    """
    accepted = accept(draft, argmax)
    if not draft:
        return Verdict(0, argmax[0])
    for row in range(accepted + 1):
        if margins[row] < least_margin:
            return Verdict(row, None)
    return Verdict(accepted, argmax[accepted])
