"""The agent: configuration, wiring, and the doors for people and programs."""

import time

__version__ = "0.1.0"

LOADED_AT = time.monotonic()
"""When this process began to load meshd: "ready in" counts from here, imports included."""
