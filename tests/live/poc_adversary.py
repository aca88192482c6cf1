"""An agent like any other, but for its proofs: it works as a cheat does, or says of others what is not so.

Run as `python -m tests.live.poc_adversary FOLDER NAME TOKEN LIE`, where LIE is `slander`, or `work`: then each race is
worked for by the cheat that the file FOLDER/cheat names at that moment.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy

from forms.poc.cheats import CHEATS, Situation
from forms.poc.claim import Work, sample
from forms.poc.verification import SAMPLES
from meshd.agent import Agent
from meshd.attest.attestation import Attestation, Findings
from meshd.attest.judging import assignment_of, computer_of, encode_openings, judge_transcript
from meshd.attest.race import agree
from meshd.attest.race_job import Generate, Generated, Progress
from meshd.attest.transcript import Judged
from meshd.config import Config
from meshd.datadir import DataDir
from meshd.node import Node
from transport.interface import NodeId

WANTED = 96
DENSE, SLOW = "dense", "slow"
"""What no audit has, for it takes a verifier's clock, or is seen without computing anything."""
SLOW_S = 2.0


def honest(its: Situation) -> Work:
    return Work.of(its.results())


def dense(its: Situation) -> Work:
    """Every nonce that was tried, as if each had been near enough."""
    computer, assignment = its.computer, its.assignment
    tried = computer.compute(assignment.key, assignment.residue.nonces(0, 0, its.wanted))
    near = numpy.minimum(tried.distances, numpy.float32(assignment.threshold - 1e-4))
    return Work.of(replace(tried, distances=near))


class Cheating:
    """Computes what the cheat of the moment claims, and judges others as it should."""

    def __init__(self, choice: Path) -> None:
        self._choice = choice
        self._works: dict[bytes, Work] = {}

    async def generate(self, job: Generate, told: Callable[[Progress], None]) -> Generated:
        work = await asyncio.to_thread(self._cheat, job, self._choice.read_text())
        self._works[work.claim.root] = work
        return Generated(work.claim.nonces, work.claim.distances, work.claim.root)

    def _cheat(self, job: Generate, name: str) -> Work:
        race = agree(job.agreed)
        assignment = assignment_of(race, NodeId(job.prover), job.key)
        dice = numpy.random.default_rng(list(os.urandom(8)))
        situation = Situation(computer_of(race.profile, race.seed), assignment, WANTED, dice)
        if name == SLOW:
            time.sleep(SLOW_S)  # a thread's: who says that it took less time than it did
        cheats = CHEATS | {"": honest, SLOW: honest, DENSE: dense}
        return cheats[name](situation)

    async def open(self, root: bytes, secret: bytes) -> bytes:
        work = self._works[root]
        return encode_openings(work.open(sample(root, secret, work.claim.count, SAMPLES)))

    async def judge(self, transcript: bytes) -> Judged:
        return await asyncio.to_thread(judge_transcript, transcript)


def slander(node: Node) -> None:
    """Attest fraud of whoever proved to be honest."""
    attest = node.attestations.attest

    def lie(findings: Findings) -> Attestation:
        return attest(msgspec.structs.replace(findings, verdict="fraud"))

    races = node.racing.races
    races.context = replace(races.context, attest=lie)


def cheat(node: Node, choice: Path) -> None:
    """Work as the file says."""
    races = node.racing.races
    races.context = replace(races.context, computing=Cheating(choice))


async def main(folder: Path, name: str, token: str, lie: str) -> None:
    config = Config(
        name=name, join=(token,), port=0, console_port=0, bind="127.0.0.1:0", no_mdns=True, no_bend=True,
        data_dir=str(folder / name),
    )  # fmt: skip
    stop = asyncio.Event()
    async with Agent(config, DataDir(folder / name), print).started(stop) as node:
        node.racing.races.options = replace(node.racing.races.options, apart=0.0)
        if lie == "slander":
            slander(node)
        else:
            cheat(node, folder / "cheat")
        await node.run(stop, print)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
