"""What a verifier finds reaches the mesh, counts as far as it was checked, and decides who gets work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from meshd.attest.attestation import POC_FACT, Attestation, Findings, attest, encode_fact
from meshd.attest.ledger import Outcome
from meshd.attest.transcripts import TranscriptStore
from meshd.attest.worth import Trust
from meshd.attestations import Attestations, Check, check_nothing
from tests.mesh.standing_node import StandingNode, meet, standing_node
from tests.mesh.test_mesh_news import founder, member
from tests.meshd.examples import FINDINGS
from transport import link
from transport.identity import NodeKey
from transport.interface import NodeId, Role

pytestmark = pytest.mark.live

PROVER = NodeId(b"\x02" * 32)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "HIGHER_ID_WAITS_S", 0.0)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - several tasks away
            await asyncio.sleep(0.02)


def of(node: StandingNode, trust: Trust = Trust.MEMBERS, check: Check = check_nothing) -> Attestations:
    standing = node.standing
    return Attestations(standing.belonging.key, standing.membership.mesh_id, node.gossip, trust, time.time, check)


def found(verifier: StandingNode, **other: object) -> Findings:
    made = int(time.time())
    plain = msgspec.structs.replace(FINDINGS, verifier=verifier.node, epoch=made, made=made, expires=made + 3600)
    return msgspec.structs.replace(plain, **other)


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[StandingNode, StandingNode]]:
    owner = founder(folder / "o")
    other = member(folder / "1", owner)
    async with standing_node(owner, Role.OWNER) as top, standing_node(other) as one:
        await meet(top, one)
        yield top, one


@asynccontextmanager
async def running(*attestations: Attestations) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one.run()) for one in attestations]
        yield
        for task in tasks:
            task.cancel()


async def test_what_one_found_the_other_places_by(tmp_path: Path) -> None:
    async with two(tmp_path) as (verifier, listener):
        finds, hears = of(verifier), of(listener, Trust.ATTESTED)
        async with running(finds, hears):
            assert hears.believed(PROVER) == 0.0
            assert "not attested" in hears.left_out([PROVER, listener.node])[PROVER]
            finds.attest(found(verifier))
            finds.enter("validate")
            await until(lambda: hears.believed(PROVER) > 0.99)  # a mesh of two: one verdict is enough
            await until(lambda: hears.now().of(verifier.node).phase == "validate")
            finds.claim(7.0)
            await until(lambda: hears.now().of(verifier.node).claimed_flop_per_s == 7.0)
            assert [one.verifier for one in hears.ledger.about(PROVER, time.time())] == [verifier.node]


async def test_a_slander_is_checked_by_whoever_hears_it_and_costs_the_slanderer_its_place(tmp_path: Path) -> None:
    asked: list[Attestation] = []

    async def refute(attestation: Attestation) -> Outcome:
        asked.append(attestation)
        return Outcome.REFUTED

    async with two(tmp_path) as (liar, listener):
        lies, hears = of(liar), of(listener, check=refute)
        async with running(lies, hears):
            lies.attest(found(liar, verdict="fraud", mismatches=9))
            await until(lambda: hears.believed(liar.node) == 0.0)
            assert hears.believed(PROVER) == 1.0
            assert [one.prover for one in asked] == [PROVER]
            assert "in quarantine" in hears.why_not(liar.node)
            assert lies.believed(PROVER) == 0.0  # it believes itself
            assert hears.counts()["refuted"] == 1


async def test_a_word_of_fraud_that_nobody_can_check_changes_nothing(tmp_path: Path) -> None:
    async with two(tmp_path) as (verifier, listener):
        finds, hears = of(verifier), of(listener)
        async with running(finds, hears):
            finds.attest(found(verifier, verdict="fraud", mismatches=9))
            await until(lambda: hears.counts().get("unavailable", 0) > 0)
            assert hears.believed(PROVER) == 1.0


async def test_what_another_should_say_is_not_believed_of_this_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with two(tmp_path) as (verifier, listener):
        told = of(verifier).attest(found(verifier))
        hears = of(listener)
        third = of(listener).attest(found(listener))
        async with running(hears):
            verifier.gossip.publish(POC_FACT, encode_fact([told, third], "idle", 0.0), is_urgent=True)
            await until(lambda: "another verifier" in caplog.text)
            assert hears.now().of(verifier.node).phase == "idle"
            assert all(one.verifier != listener.node for one in hears.ledger.about(PROVER, time.time()))


async def test_what_was_attested_before_a_restart_is_told_again(tmp_path: Path) -> None:
    async with two(tmp_path) as (verifier, listener):
        before = of(verifier).attest(found(verifier))
        expired = of(verifier).attest(found(verifier, made=1000, epoch=1000, expires=2000))
        store = TranscriptStore(tmp_path / "kept")
        for number, one in enumerate((before, expired)):
            store.keep(b"transcript %d" % number, one.signed)
        again, hears = of(verifier), of(listener)
        again.recall(store.signed())
        async with running(hears):
            await until(lambda: [one.made for one in hears.ledger.verdicts(PROVER, time.time())] != [])
        assert again.ledger.own(time.time()) == [before]


def test_nothing_is_recalled_where_nothing_was_kept(tmp_path: Path) -> None:
    store = TranscriptStore(tmp_path / "none")
    assert store.signed() == []
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / ("ab" * 32)).write_bytes(b"nonsense")
    (tmp_path / "none" / "else").write_bytes(b"")
    assert store.signed() == []


async def test_who_is_not_in_the_mesh_any_more_has_no_say(tmp_path: Path) -> None:
    async with two(tmp_path) as (one, listener):
        stranger, clock = NodeKey(b"\x09" * 32), time.time()
        hears = of(listener, Trust.ATTESTED)
        made = msgspec.structs.replace(found(one), verifier=stranger.node)
        hears.ledger.hear(attest(made, stranger, listener.standing.membership.mesh_id), clock)
        assert hears.ledger.verdicts(PROVER, clock)
        assert hears.believed(PROVER) == 0.0
