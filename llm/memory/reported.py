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
    """What the load in `log` allocated, draft model included; None where the engine did not say."""
    sizes: dict[tuple[int, str, str], int] = {}
    # A context announces its output buffer first. It may work out its compute buffer again, which then replaces the
    # one before; weights and caches come in parts that add up.
    context = 0
    for match in LINE.finditer(log):
        what, device, size = match["what"], match["device"], round(float(match["mib"]) * MIB)
        context += what == "output"
        key = (context, what, device)
        sizes[key] = size if what == "compute" else sizes.get(key, 0) + size
    if not sizes:
        return None
    of_device: dict[str, int] = {}
    for (_, _, device), size in sizes.items():
        of_device[device] = of_device.get(device, 0) + size

    def of(*kinds: str) -> int:
        return sum(size for (_, kind, _), size in sizes.items() if kind in kinds)

    return Reported(of("model"), of("KV", "RS"), of("compute"), of("output"), of_device)
