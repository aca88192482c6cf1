"""When this process began to load meshd. Imported first of all, so that "ready in" counts the other imports too."""

from __future__ import annotations

import time

LOADED_AT = time.monotonic()
