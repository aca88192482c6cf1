"""When this process began to load meshd. Imported first of all, so that "ready in" counts the other imports too."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Iterator

LOADED_AT = time.monotonic()


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Load inside the block what this process keeps for good: the garbage collector looks at none of it, now or later.

    What is loaded is never garbage, and looking through it takes a tenth of an agent's start, and later tens of
    milliseconds of its loop at each full collection.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
