"""How fast this host's memory is: measured once, at the first need, and kept in the data directory. Blocks."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from gossip.facts import GpuFact
from llm.device_speed import known_bytes_per_s, measure_bytes_per_s
from meshd.datadir import DataDir

FILE = "memory-speed"


@dataclass(frozen=True, slots=True)
class MemorySpeed:
    """source: where the figure comes from, for people."""

    bytes_per_s: float
    source: str


def own_speed(directory: DataDir) -> MemorySpeed:
    """The speed of this host's RAM. Takes some tenths of a second the first time; call it in a thread."""
    kept = _kept(directory)
    if kept is None:
        kept = measure_bytes_per_s()
        if directory.root.is_dir():  # a command must not make one
            directory.write(FILE, json.dumps({"bytes_per_s": kept, "cores": os.cpu_count()}).encode())
    return MemorySpeed(kept, f"RAM of {kept / 1e9:.3g} GB/s, measured")


def _kept(directory: DataDir) -> float | None:
    """What an earlier run measured; None where there was none, or with other cores."""
    try:
        found = json.loads(directory.read(FILE) or b"null")
        return float(found["bytes_per_s"]) if found["cores"] == os.cpu_count() else None
    except (ValueError, TypeError, KeyError):
        return None


def speed_of(devices: GpuFact | None, own: MemorySpeed, *, is_here: bool) -> MemorySpeed:
    """The memory speed of a node with these devices: known by its GPU's name, measured here, or taken to be as here."""
    gpus = [device.name for device in devices.devices if device.kind == "cuda"] if devices is not None else []
    known = [(known_bytes_per_s(name), name) for name in gpus]
    if known and min(known)[0]:
        slowest, name = min(known)
        return MemorySpeed(slowest, f"{name} of {slowest / 1e9:.3g} GB/s by its maker")
    if is_here and not gpus:
        return own
    return MemorySpeed(own.bytes_per_s, f"memory not known, taken to be as here ({own.bytes_per_s / 1e9:.3g} GB/s)")
