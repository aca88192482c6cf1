"""The process that computes proofs: it searches, opens what it found, and judges transcripts, one job at a time.

Its agent writes jobs to its input and reads replies from its output (`race_job`). It ends with its agent, also in the
midst of a search.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import BinaryIO

import psutil

from forms.poc.batch_size import batch_size
from forms.poc.claim import Work, sample
from forms.poc.computer import Results
from forms.poc.generation import Assignment, generate, joined
from forms.poc.group_search import GroupFailed, HostSearch
from forms.poc.groups import CPU, Device
from forms.poc.verification import LEAST_FOUND, SAMPLES
from meshd.attest.judging import assignment_of, computer_of, encode_openings, judge_transcript
from meshd.attest.order import GRACE_S
from meshd.attest.race import agree
from meshd.attest.race_job import (
    LENGTH,
    MAX_JOB_BYTES,
    Failed,
    Generate,
    Generated,
    Job,
    Judge,
    Judgement,
    Open,
    Opened,
    Progress,
    Reply,
    frame,
    read_job,
)
from meshd.attest.race_message import MAX_NONCES
from transport.interface import NodeId

BATCH = 32
KEPT_WORKS = 2
TOLD_EVERY_S = 0.2

Tell = Callable[[Reply], None]


class Works:
    """What was found last, by its root: to be opened."""

    def __init__(self) -> None:
        self._by_root: OrderedDict[bytes, Work] = OrderedDict()

    def keep(self, work: Work) -> None:
        self._by_root[work.claim.root] = work
        while len(self._by_root) > KEPT_WORKS:
            self._by_root.popitem(last=False)

    def open(self, job: Open) -> Opened | Failed:
        work = self._by_root.get(job.root)
        if work is None:
            return Failed("that work is not here")
        picked = sample(job.root, job.secret, work.claim.count, SAMPLES)
        return Opened(encode_openings(work.open(picked)))


def do(job: Job, works: Works, tell: Tell) -> Reply:
    """Do one job."""
    match job:
        case Generate():
            return search(job, works, tell)
        case Open():
            return works.open(job)
        case Judge(transcript):
            return Judgement(judge_transcript(transcript))


def search(job: Generate, works: Works, tell: Tell) -> Generated | Failed:
    """Search for so long, with each group of devices in a process of its own unless the processor is all there is."""
    race = agree(job.agreed)
    assignment = assignment_of(race, NodeId(job.prover), job.key)
    try:
        parts = by_groups(job, assignment, tell) if job.groups != ((),) else by_processor(job, assignment, tell)
    except GroupFailed as error:
        return Failed(str(error))
    found = sum(len(part.nonces) for part in parts)
    if found < LEAST_FOUND:
        return Failed(f"{found} nonces were found, and {LEAST_FOUND} are the least that say something")
    work = Work.of(joined(parts))
    works.keep(work)
    return Generated(work.claim.nonces, work.claim.distances, work.claim.root)


def by_processor(job: Generate, assignment: Assignment, tell: Tell) -> list[Results]:
    """Search here; on for half of the grace where that found too little to be judged by."""
    started = time.monotonic()
    batch = batch_size(assignment.profile, psutil.virtual_memory().available, BATCH)
    parts, found, told_s = [], 0, 0.0
    for part in generate(computer_of(assignment.profile, assignment.seed), assignment, 0, batch):
        parts.append(part)
        found, spent_s = found + len(part.nonces), time.monotonic() - started
        if spent_s - told_s > TOLD_EVERY_S:
            told_s = spent_s
            tell(Progress(found, spent_s))
        is_enough = found >= SAMPLES or spent_s > job.work_s + GRACE_S / 2
        if found > MAX_NONCES - batch or (spent_s >= job.work_s and is_enough):
            break
    return parts


def by_groups(job: Generate, assignment: Assignment, tell: Tell) -> list[Results]:
    """Search with all groups at once. Raises GroupFailed."""
    # No group is told its devices' memory: the groups were made by it.
    groups = [tuple(Device(number, 0.0) for number in group) or (CPU,) for group in job.groups]
    told = threading.Lock()  # each group has a thread that hears it

    def tell_of(spent_s: float) -> None:
        with told:
            tell(Progress(0, spent_s))

    searched = HostSearch(groups).run(assignment, job.work_s, SAMPLES, MAX_NONCES, tell_of)
    return [one.found.results for one in searched]


def read_jobs(jobs: queue.SimpleQueue[Job], source: BinaryIO) -> None:
    """Take in jobs, and end this process as soon as the agent has gone, whatever is being computed."""
    while len(header := source.read(LENGTH.size)) == LENGTH.size:
        (length,) = LENGTH.unpack(header)
        payload = source.read(min(length, MAX_JOB_BYTES))
        if len(payload) < length:
            break
        jobs.put(read_job(payload))
    os._exit(0)


def main() -> None:
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    threading.Thread(target=read_jobs, args=(jobs, sys.stdin.buffer), name="jobs", daemon=True).start()
    output = sys.stdout.buffer

    def tell(reply: Reply) -> None:
        output.write(frame(reply))
        output.flush()

    works = Works()
    while True:
        tell(do(jobs.get(), works, tell))


if __name__ == "__main__":
    main()
