"""The sort on one core of a CPU by compiled code, a few times as fast as numpy's and stable like it."""

from __future__ import annotations

import numpy as np

from forms.live.radix_loops import argsort, sort
from forms.live.sort_call import Order, SortCall


def sort_numbers(call: SortCall) -> bytes:
    """What the form's reference gives."""
    numbers = np.frombuffer(call.numbers, "<u8")
    match call.order:
        case Order.ASCENDING:
            done = sort(numbers.astype(np.uint64))
        case Order.DESCENDING:
            done = ~sort(~numbers.astype(np.uint64))
        case Order.ARGSORT:
            done = argsort(numbers.astype(np.uint64))
    return done.astype("<u8", copy=False).tobytes()
