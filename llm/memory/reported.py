"""Reads from an engine's log what it says it allocated. Pure; the log is llama-server's with `--verbosity 4`."""

from __future__ import annotations

import re
from dataclasses import dataclass

MIB = 1 << 20
LINE = re.compile(
    r"(?P<device>[\w\[\].:-]+)\s+(?P<what>model|KV|RS|compute|output) buffer size =\s*(?P<mib>\d+\.\d+) MiB"
)


@dataclass(frozen=True, slots=True)
class Reported:
    """Bytes by kind. of_device: total of each device in the engine's own names."""

    weights: int
    cache: int
    compute: int
    output: int
    of_device: dict[str, int]

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.compute + self.output


def read_reported(log: str) -> Reported | None:
    """What the last load in `log` allocated; None where the engine did not say.

    A load is first tried without allocating (every size of it 0.00 or repeated), then done: a line that comes again
    replaces the one before, except that a split model's or cache's parts follow each other directly.
    """
    found: dict[tuple[str, str], list[float]] = {}
    previous: tuple[str, str] | None = None
    for match in LINE.finditer(log):
        key = (match["what"], match["device"])
        again = key == previous
        found[key] = [*(found.get(key, []) if again else []), float(match["mib"])]
        previous = key
    if not found:
        return None
    totals = {key: round(sum(values) * MIB) for key, values in found.items()}
    of_device: dict[str, int] = {}
    for (_, device), size in totals.items():
        of_device[device] = of_device.get(device, 0) + size

    def of(*kinds: str) -> int:
        return sum(size for (kind, _), size in totals.items() if kind in kinds)

    return Reported(of("model"), of("KV", "RS"), of("compute"), of("output"), of_device)
