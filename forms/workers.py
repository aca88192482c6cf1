"""The workers of one host: one for each of its devices, and who gets a call that may go to any."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from forms.computed import Computed
from forms.errors import NotFound
from forms.worker import CPU, Worker


@dataclass(frozen=True, slots=True)
class Workers:
    """Those of one host, the one that calls go to where nobody chose first: GPUs before the CPU."""

    workers: Sequence[Worker]

    def __iter__(self) -> Iterator[Worker]:
        return iter(self.workers)

    def of(self, device: str) -> Worker:
        """The worker of `device`. Raises NotFound."""
        for worker in self.workers:
            if worker.device == device:
                return worker
        raise NotFound(f"no device {device!r} computes here; there is {', '.join(one.device for one in self.workers)}")

    def least_busy(self) -> Worker:
        """Of the first worker's kind, the one with the fewest calls before it: a GPU's calls stay on GPUs."""
        first = self.workers[0]
        alike = [one for one in self.workers if (one.device == CPU) == (first.device == CPU)]
        return min(alike, key=lambda one: one.waiting + one.is_computing)

    async def compute(self, kind: int, request: bytes, deadline_s: float, device: str = "") -> Computed:
        """The reply, from `device` or from the least busy. Raises Busy, WorkerLost, NotFound."""
        worker = self.of(device) if device else self.least_busy()
        return await worker.compute(kind, request, deadline_s)

    async def run(self) -> None:
        """Compute until cancelled."""
        async with asyncio.TaskGroup() as group:
            for worker in self.workers:
                group.create_task(worker.run(), name=f"forms worker of {worker.device}")
