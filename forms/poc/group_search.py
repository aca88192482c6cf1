"""Runs a host's search: one process for each group of its devices, all of them begun at once.

Each process computes with as many threads as it is told and no more: the matrices are small, and a library that takes
every core it sees makes rates that cannot be compared.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from subprocess import PIPE, Popen

import msgspec

from forms.poc.generation import Assignment
from forms.poc.group_job import Found, Job, Progress, Ready, Said, line, read_said
from forms.poc.groups import CPU, Device
from forms.poc.phases import Phase, enter
from forms.poc.threads import pin_threads

Told = Callable[[float], None]


class GroupFailed(Exception):
    """The process of a group ended before it had said what it found; the message says which and how."""


@dataclass(frozen=True, slots=True)
class Searched:
    """What one group did. devices: none for the processor."""

    devices: tuple[int, ...]
    ready: Ready
    found: Found


@dataclass(slots=True)
class HostSearch:
    """groups: as `group_devices` makes them.  threads: of each process.  phase: of all of them together."""

    groups: Sequence[tuple[Device, ...]]
    threads: int = 1
    phase: Phase = field(default=Phase.IDLE, init=False)

    def run(self, assignment: Assignment, seconds: float, least: int, most: int, told: Told) -> list[Searched]:
        """Search with every group for so many seconds, and on until `least` are found. Raises GroupFailed."""
        jobs = [self._job(assignment, number, seconds, least, most) for number in range(len(self.groups))]
        self.phase = enter(self.phase, Phase.GENERATE)
        # Processes end before the threads that listen to them, whatever happens, so that none waits for ever.
        with ThreadPoolExecutor(len(jobs)) as pool, contextlib.ExitStack() as running:
            processes = [running.enter_context(_group_process(job, self.threads)) for job in jobs]
            ready = list(pool.map(_until_ready, processes, jobs))
            for process, job in zip(processes, jobs, strict=True):
                _write(process, job, b"\n")
            found = list(pool.map(_until_found, processes, jobs, [told] * len(jobs)))
        self.phase = enter(self.phase, Phase.IDLE)
        each = zip(jobs, ready, found, strict=True)
        return [Searched(job.devices, is_ready, has_found) for job, is_ready, has_found in each]

    def _job(self, assignment: Assignment, number: int, seconds: float, least: int, most: int) -> Job:
        """Each group finds its share of the least and the most."""
        count = len(self.groups)
        devices = tuple(device.number for device in self.groups[number] if device is not CPU)
        bounds = (max(1, -(-least // count)), most // count)
        same = (assignment.profile.name, assignment.seed, assignment.key, assignment.share)
        residue = assignment.residue
        return Job(*same, count, number, devices, seconds, *bounds, residue.node, residue.nodes)


@contextlib.contextmanager
def _group_process(job: Job, threads: int) -> Iterator[Popen[bytes]]:
    command = (sys.executable, "-m", "forms.poc.group_child")
    process = Popen(command, stdin=PIPE, stdout=PIPE, env=_environment(job, threads))
    try:
        _write(process, job, line(job))
        yield process
    finally:
        process.kill()  # it has nothing to save
        process.communicate()


def _environment(job: Job, threads: int) -> dict[str, str]:
    """GPUs are numbered as NVML numbers them; the group sees its own only."""
    devices = ",".join(map(str, job.devices))
    environment = dict(os.environ) | {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": devices}
    pin_threads(environment, threads)
    return environment


def _until_ready(process: Popen[bytes], job: Job) -> Ready:
    said = _read(process, job)
    if not isinstance(said, Ready):
        raise GroupFailed(f"group {job.group} sent a {type(said).__name__} before it was ready")
    return said


def _until_found(process: Popen[bytes], job: Job, told: Told) -> Found:
    while True:
        match _read(process, job):
            case Found() as found:
                return found
            case Progress(spent_s):
                told(spent_s)
            case Ready():
                raise GroupFailed(f"group {job.group} said twice that it is ready")


def _read(process: Popen[bytes], job: Job) -> Said:
    assert process.stdout is not None
    text = process.stdout.readline()
    try:
        return read_said(text)
    except msgspec.MsgspecError as error:
        where = f"the process of group {job.group} (devices {list(job.devices) or 'none'})"
        raise GroupFailed(f"{where} ended before it had found anything: see above") from error


def _write(process: Popen[bytes], job: Job, data: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(data)
        process.stdin.flush()
    except BrokenPipeError as error:
        raise GroupFailed(f"the process of group {job.group} has ended: see above") from error
