"""6: a host searches with a process for each of its groups, at once, and what they find together is one proof."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy
import psutil
import pytest

from forms.poc.computer import Results
from forms.poc.group_job import Found, Job, Progress, Ready, line, read_job, read_said
from forms.poc.group_search import GroupFailed, HostSearch
from forms.poc.groups import CPU, Device, group_devices
from forms.poc.phases import Phase
from forms.poc.profile import TINY
from forms.poc.rate import assignment_of, decode_proof, encode_proof, judge_proof, measure
from forms.poc.threads import THREAD_SETTINGS, pin_threads

JOB = Job("tiny", b"s" * 32, 7, 0.2, 2, 1, (), 0.1, 16, 1 << 10)


def test_what_goes_through_the_pipe_comes_out_alike() -> None:
    assert read_job(line(JOB)) == JOB
    results = Results(
        numpy.array([3, 1 << 60], numpy.uint64), numpy.array([1.25, 1.5], "f4"), numpy.ones((2, 16), numpy.float16)
    )
    found = Found.of(results, 10, 1.0, 0.9)
    assert all(read_said(line(said)) == said for said in (Ready(0.1, 32), Progress(0.2, 3), found))
    again = found.results
    assert numpy.array_equal(again.nonces, results.nonces) and numpy.array_equal(again.artefacts, results.artefacts)


@pytest.mark.live
def test_two_groups_search_side_by_side_and_prove_together() -> None:
    # Two processors: what a host with two groups of GPUs does, without GPUs.
    search, told = HostSearch([(CPU,), (CPU,)]), list[float]()
    measured, proof = measure(search, TINY, b"e" * 32, 0.3, told.append)
    nonces = numpy.frombuffer(proof.nonces, "<u8")
    assert {int(nonce) % 2 for nonce in nonces} == {0, 1}
    assert 0 < measured.cores < 2.5
    assert measured.groups == [[], []] and len(measured.batches) == 2
    assert measured.relative_sd == pytest.approx(len(nonces) ** -0.5)
    assert 0 < measured.tflop_per_s_at_least * 1e3 < measured.gflop_per_s * 1.5
    assert judge_proof(decode_proof(encode_proof(proof))).is_honest
    assert search.phase is Phase.STOP
    assert told


def test_a_group_of_devices_gets_them_by_number_and_its_own_nonces() -> None:
    groups = group_devices([Device(0, 12.0), Device(1, 12.0), Device(2, 24.0), Device(3, 1.0)])
    search = HostSearch(groups)
    jobs = [search._job(assignment_of(TINY, b"e" * 32, 0.2, 2), number, 1.0, 65, 1000) for number in (0, 1)]
    assert [job.devices for job in jobs] == [(0, 1), (2,)]
    assert [(job.groups, job.group, job.least, job.most) for job in jobs] == [(2, 0, 33, 500), (2, 1, 33, 500)]
    assert HostSearch([(CPU,)])._job(assignment_of(TINY, b"e" * 32, 0.2), 0, 1.0, 64, 1000).devices == ()


@pytest.mark.live
def test_a_group_that_cannot_be_used_is_named_and_leaves_nothing_behind() -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.raises(GroupFailed, match="group 1"):
        HostSearch([(CPU,), (Device(99, 24.0),)]).run(assignment_of(TINY, b"e" * 32, 0.2, 2), 60.0, 64, 1000, print)
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


@pytest.mark.live
def test_a_groups_process_ends_with_its_host() -> None:
    """The host is killed in the midst of a search of an hour."""
    script = (
        "from forms.poc.group_search import HostSearch\n"
        "from forms.poc.groups import CPU\n"
        "from forms.poc.rate import assignment_of\n"
        "from forms.poc.profile import TINY\n"
        "say = lambda spent_s: print(flush=True)\n"
        "HostSearch([(CPU,)]).run(assignment_of(TINY, b'e' * 32, 0.2), 3600.0, 64, 1 << 20, say)\n"
    )
    host = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert host.stdout is not None and host.stdout.readline()
    (group,) = psutil.Process(host.pid).children()
    os.kill(host.pid, signal.SIGKILL)
    host.communicate()
    assert psutil.wait_procs([group], timeout=60)[0] == [group]


def test_threads_are_said_in_every_librarys_words() -> None:
    environment = {"PATH": "/bin", "OMP_NUM_THREADS": "64"}
    pin_threads(environment, 3)
    assert {environment[name] for name in THREAD_SETTINGS} == {"3"} and environment["PATH"] == "/bin"
