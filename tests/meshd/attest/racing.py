"""Nodes that race over the memory transport, in virtual time: what they compute is real, how long it takes is not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy

from forms.poc.cheats import CHEATS, Situation
from forms.poc.claim import Work, sample
from forms.poc.verification import SAMPLES
from meshd.attest.attestation import Attestation, Findings, attest
from meshd.attest.judging import assignment_of, computer_of, encode_openings, judge_transcript
from meshd.attest.race import agree
from meshd.attest.race_context import RaceContext
from meshd.attest.race_job import Generate, Generated, Progress
from meshd.attest.race_message import PROTOCOL
from meshd.attest.races import Called, RaceOptions, Races
from meshd.attest.transcript import Judged
from meshd.attest.transcripts import TranscriptStore
from meshd.dispatch import Dispatch, Serve
from transport.identity import NodeKey
from transport.interface import NodeId, Stream
from transport.memory import MemoryNetwork, MemoryTransport

MESH_ID = b"m" * 16
NOW = 1_800_000_000
FOUND = 96


@dataclass
class Hands:
    """Computes in this process, and as a cheat does where it is told to. work_s: it takes; None: the whole time."""

    cheat: str = ""
    found: int = FOUND
    work_s: float | None = None
    works: dict[bytes, Work] = field(default_factory=dict)

    async def generate(self, job: Generate, told: Callable[[Progress], None]) -> Generated:
        await asyncio.sleep(job.work_s if self.work_s is None else self.work_s)
        race = agree(job.agreed)
        assignment = assignment_of(race, NodeId(job.prover), job.key)
        dice = numpy.random.default_rng(7)
        situation = Situation(computer_of(race.profile, race.seed), assignment, self.found, dice)
        work = CHEATS[self.cheat](situation) if self.cheat else Work.of(situation.results())
        told(Progress(self.found, job.work_s))
        self.works[work.claim.root] = work
        return Generated(work.claim.nonces, work.claim.distances, work.claim.root)

    async def open(self, root: bytes, secret: bytes) -> bytes:
        work = self.works[root]
        return encode_openings(work.open(sample(root, secret, work.claim.count, SAMPLES)))

    async def judge(self, transcript: bytes) -> Judged:
        return judge_transcript(transcript)


@dataclass
class Voice:
    """What a node said of itself, and of others."""

    key: NodeKey
    phases: list[str] = field(default_factory=list)
    claimed: float = 0.0
    attested: list[Attestation] = field(default_factory=list)

    def enter(self, phase: str) -> None:
        self.phases.append(phase)

    def claim(self, flop_per_s: float) -> None:
        self.claimed = flop_per_s

    def attest(self, findings: Findings) -> Attestation:
        self.attested.append(attest(findings, self.key, MESH_ID))
        return self.attested[-1]


@dataclass
class Racer:
    key: NodeKey
    transport: MemoryTransport
    races: Races
    hands: Hands
    voice: Voice

    @property
    def node(self) -> NodeId:
        return self.key.node

    async def race(self, work_s: float = 5.0) -> Called:
        """Call one, and wait until it is over."""
        called = self.races.begin("tiny", work_s)
        while called.state in ("agreeing", "racing"):  # noqa: ASYNC110 - virtual seconds
            await asyncio.sleep(0.1)
        return called


Liar = Callable[[Racer, Stream], Awaitable[None]]


@dataclass
class Field:
    """A network of racers, and the task group that they run in."""

    folder: Path
    group: asyncio.TaskGroup
    network: MemoryNetwork
    dice: random.Random
    racers: list[Racer] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def enter(self, hands: Hands | None = None, taking: str = "join", liar: Liar | None = None) -> Racer:
        """One more, linked with all that are there. liar: serves its streams in place of an honest node."""
        number = len(self.racers) + 1
        key, hands = NodeKey(bytes([number]) * 32), hands or Hands()
        transport = self.network.transport(key.node)
        voice = Voice(key)

        def peers() -> list[NodeId]:
            return [one.node for one in self.racers if one.node != key.node]

        store = TranscriptStore(self.folder / str(number))
        context = RaceContext(
            MESH_ID, key, transport, hands, store, lambda: NOW + _now(), self.dice.randbytes, voice.attest
        )
        options = RaceOptions(taking=taking, apart=0.0)  # type: ignore[arg-type]
        racer = Racer(key, transport, Races(context, peers, voice, options), hands, voice)
        await self._run(racer, partial(liar, racer) if liar else racer.races.serve)
        for other in self.racers:
            transport.keep(other.node, other.transport.addresses)
            other.transport.keep(key.node, transport.addresses)
        self.racers.append(racer)
        await asyncio.sleep(1)
        return racer

    async def _run(self, racer: Racer, serve: Serve) -> None:
        started = asyncio.Event()

        async def live() -> None:
            async with racer.transport:
                started.set()
                async with asyncio.TaskGroup() as group:
                    for work in racer.races.works().values():
                        group.create_task(work)
                    await Dispatch({PROTOCOL: serve}).run(racer.transport)

        self.tasks.append(self.group.create_task(live()))
        await started.wait()


def _now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def race_field(folder: Path, seed: int = 1, delay_s: float = 0.05) -> AsyncIterator[Field]:
    async with asyncio.TaskGroup() as group:
        field = Field(folder, group, MemoryNetwork(seed, delay_s), random.Random(seed))
        yield field
        for task in field.tasks:
            task.cancel()
