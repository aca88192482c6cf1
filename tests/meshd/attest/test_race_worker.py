"""The process that computes proofs: what it finds holds, what is given up ends it, and its death costs one job."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import psutil
import pytest

from meshd.attest.judging import judge_transcript
from meshd.attest.order import promise_of
from meshd.attest.pairing import claim_body, key_of, openings_body
from meshd.attest.race import Agreed, agree, enter
from meshd.attest.race_job import LENGTH, Generate, Progress, frame
from meshd.attest.race_message import Claim, Openings
from meshd.attest.race_worker import NotComputed, RaceWorker
from meshd.attest.transcript import encode_transcript
from tests.meshd.attest.examples import (
    AGREED,
    MESH_ID,
    OWN,
    PLEDGE,
    PLEDGED,
    PROVER,
    RACE,
    SAMPLE,
    SECRETS,
    TERMS,
    TRANSCRIPT,
    VERIFIER,
)

pytestmark = pytest.mark.live

PATIENCE_S = 120.0
KEY = key_of(RACE, PROVER.node, OWN, (PLEDGE,), (PLEDGED,))


@asynccontextmanager
async def working() -> AsyncIterator[RaceWorker]:
    worker = RaceWorker()
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        running = group.create_task(worker.run())
        yield worker
        running.cancel()


def children() -> list[psutil.Process]:
    """Processes of workers of this one."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "meshd.attest.race_child" in child.cmdline():
                found.append(child)
    return found


async def test_what_it_finds_and_opens_is_judged_honest_and_an_altered_one_fraud() -> None:
    told: list[Progress] = []
    async with working() as worker:
        found = await worker.generate(Generate(AGREED, PROVER.node, KEY, 0.5), told.append)
        samples = await worker.open(found.root, SAMPLE)
        for distances, verdict in ((found.distances, "attested"), (found.distances[4:] + found.distances[:4], "fraud")):
            body = claim_body(RACE, VERIFIER.node, promise_of(SAMPLE), KEY, found.root, found.nonces + distances)
            claim = Claim((PLEDGED,), found.nonces, distances, found.root, PROVER.sign(body))
            opened = Openings(samples, PROVER.sign(openings_body(claim.signature, SAMPLE, samples)))
            transcript = encode_transcript(msgspec.structs.replace(TRANSCRIPT, claim=claim, openings=opened))
            judged = await worker.judge(transcript)
            assert judged.verdict == verdict, judged.reason
            assert judged == judge_transcript(transcript)  # here and there alike
        assert len(children()) == 1
        with pytest.raises(NotComputed, match="not here"):
            await worker.open(b"o" * 32, SAMPLE)
    assert children() == []
    assert len(found.nonces) // 8 >= 64


async def test_two_groups_search_the_nonces_of_one_claimant_in_processes_of_their_own() -> None:
    terms = msgspec.structs.replace(TERMS, salt=b"g" * 16)
    layouts = {PROVER.node: ((1, 1), 0.0), VERIFIER.node: ((1,), 0.0)}
    keys = zip((PROVER, VERIFIER), SECRETS, strict=True)
    entries = tuple(enter(terms, 0, secret, layouts[key.node], key, MESH_ID) for key, secret in keys)
    agreed = Agreed(MESH_ID, terms, 0, entries, SECRETS)
    async with working() as worker:
        found = await worker.generate(Generate(agreed, PROVER.node, KEY, 0.3, ((), ())), lambda progress: None)
    nonces = [int.from_bytes(found.nonces[at : at + 8], "little") for at in range(0, len(found.nonces), 8)]
    place = agree(agreed).claimants.index(PROVER.node)
    assert {nonce % 2 for nonce in nonces} == {place}
    assert {nonce // 2 % 2 for nonce in nonces} == {0, 1}
    assert len(set(nonces)) == len(nonces) >= 64


async def test_a_search_that_nobody_waits_for_ends_with_its_process() -> None:
    async with working() as worker:
        begun = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            search = group.create_task(
                worker.generate(Generate(AGREED, PROVER.node, KEY, 600.0), lambda progress: begun.set())
            )
            await begun.wait()
            (before,) = children()
            search.cancel()
        judged = await worker.judge(b"nothing")
        assert judged.verdict == "void"
        assert not before.is_running()


async def test_a_death_costs_the_job_at_hand_and_no_other() -> None:
    async with working() as worker:
        begun = asyncio.Event()

        async def search() -> None:
            with pytest.raises(NotComputed, match="died"):
                await worker.generate(Generate(AGREED, PROVER.node, KEY, 600.0), lambda progress: begun.set())

        async with asyncio.TaskGroup() as group:
            group.create_task(search())
            await begun.wait()
            os.kill(children()[0].pid, signal.SIGKILL)
        assert (await worker.judge(b"nothing")).verdict == "void"


async def test_it_outlives_no_agent_even_in_the_midst_of_a_search() -> None:
    async with asyncio.timeout(PATIENCE_S):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "meshd.attest.race_child"), stdin=PIPE, stdout=PIPE
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(frame(Generate(AGREED, PROVER.node, KEY, 600.0)))
        await process.stdout.readexactly(LENGTH.size)  # it has begun
        process.stdin.close()
        assert await process.wait() == 0
