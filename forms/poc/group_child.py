"""The process of one group of devices: makes the network, waits for the word, searches. It ends with its host."""

from __future__ import annotations

import os
import sys
import threading
import time
from types import ModuleType

import numpy
import psutil

from forms.poc.batch_size import MOST, batch_size
from forms.poc.computer import Computer
from forms.poc.generation import generate, joined
from forms.poc.group_job import Found, Job, Progress, Ready, Said, line, read_job

PROCESSOR_BATCH = 32
"""Small enough that a batch's states stay near the processor, and that the clock is looked at often."""
TOLD_EVERY_S = 0.1


def array_module(job: Job) -> tuple[ModuleType, int, int]:
    """What the group computes with, the bytes that are free there, and the most nonces at once.

    A preset fits one device: a group of several computes on its first, and the others only count for its memory.
    """
    if not job.devices:
        return numpy, psutil.virtual_memory().available, PROCESSOR_BATCH
    import cupy

    free_bytes, _ = cupy.cuda.runtime.memGetInfo()
    return cupy, int(free_bytes), MOST


def search(job: Job, computer: Computer, batch: int) -> Found:
    """Search until the job is done, telling how far it is."""
    parts, found, told_s, started, before_s = [], 0, -TOLD_EVERY_S, time.perf_counter(), time.process_time()
    for part in generate(computer, job.assignment, job.group, batch):
        parts.append(part)
        found, spent_s = found + len(part.nonces), time.perf_counter() - started
        if (spent_s >= job.seconds and found >= job.least) or found + batch > job.most:
            return Found.of(joined(parts), len(parts) * batch, spent_s, time.process_time() - before_s)
        if spent_s - told_s > TOLD_EVERY_S:
            told_s = spent_s
            tell(Progress(spent_s, found))
    raise AssertionError("generating has no end")


def tell(message: Said) -> None:
    sys.stdout.buffer.write(line(message))
    sys.stdout.buffer.flush()


def end_with_host() -> None:
    """The host keeps the pipe open for as long as it lives."""
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> None:
    """Do the one job that comes in."""
    job = read_job(sys.stdin.buffer.readline())
    started = time.perf_counter()
    module, free_bytes, most = array_module(job)
    profile = job.assignment.profile
    computer, batch = Computer.prepare(profile, job.seed, xp=module), batch_size(profile, free_bytes, most)
    tell(Ready(time.perf_counter() - started, batch))
    sys.stdin.buffer.readline()
    threading.Thread(target=end_with_host, name="end with the host", daemon=True).start()
    tell(search(job, computer, batch))


if __name__ == "__main__":
    main()
