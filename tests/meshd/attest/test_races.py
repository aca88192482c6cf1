"""Whole races between nodes that share no clock and no trust, in virtual time; 9: orders that are broken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from forms.poc.profile import TINY
from meshd.attest.attestation import Attestation, attest
from meshd.attest.ledger import Outcome
from meshd.attest.order import promise_of
from meshd.attest.pairing import pledge
from meshd.attest.race import enter
from meshd.attest.race_context import expect, send
from meshd.attest.race_job import Generate, Generated, Progress
from meshd.attest.race_message import (
    Call,
    Claim,
    Commit,
    Hello,
    Meet,
    Promise,
    Reveal,
    Roster,
    Sample,
    Shown,
    read_opening,
)
from meshd.attest.races import Called
from meshd.attest.transcript import decode_transcript, digest_of, encode_transcript
from meshd.attest.worth import lower_rate
from tests.meshd.attest.racing import FOUND, MESH_ID, Field, Hands, Racer, race_field
from transport import virtual_time
from transport.errors import MeshError
from transport.interface import Stream

SECRET = b"s" * 32
LATER_S = 1000.0


def verdicts(called: Called) -> set[tuple[bytes, bytes, str]]:
    """Prover, verifier and verdict of each attestation."""
    return {(one.prover, one.verifier, one.findings.verdict) for one in called.attestations}


def test_two_honest_nodes_attest_each_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with race_field(tmp_path) as field:
            one, other = await field.enter(), await field.enter()
            called = await one.race(work_s=5.0)
            assert (called.state, called.reason, called.absent) == ("over", "", {})
            assert verdicts(called) == {(one.node, other.node, "attested"), (other.node, one.node, "attested")}
            for attestation in called.attestations:
                findings = attestation.findings
                assert (findings.found, findings.samples, findings.mismatches) == (FOUND, 64, 0)
                assert 4.9 < findings.taken_s < 7.0  # by the verifier's clock, the network's delays included
                assert findings.flop_per_s == lower_rate(FOUND, 0.2, findings.taken_s) * TINY.operations
            assert one.voice.phases == ["generate", "validate", "idle"]
            assert one.voice.claimed >= max(a.findings.flop_per_s for a in called.attestations)

    virtual_time.run(scenario())


def test_three_verifiers_judge_each_of_five_and_all_catch_the_cheat(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with race_field(tmp_path) as field:
            cheat = await field.enter(Hands(cheat="random"))
            honest = [await field.enter() for _ in range(4)]
            called = await honest[0].race()
            assert called.race is not None
            expected = {
                (racer.node, verifier, "fraud" if racer is cheat else "attested")
                for racer in field.racers
                for verifier in called.race.verifiers(racer.node)
            }
            assert len(expected) == 15
            assert verdicts(called) == expected

    virtual_time.run(scenario())


def raced_with(
    tmp_path: Path, liar: Callable[[Racer, Stream], object], honest: int = 2, work_s: float = 5.0
) -> tuple[Called, Racer, Racer]:
    """A race that the first of some honest nodes calls, with a liar in it: the race, that node, the liar."""

    async def scenario() -> tuple[Called, Racer, Racer]:
        async with race_field(tmp_path) as field:
            racers = [await field.enter() for _ in range(honest)]
            bad = await field.enter(liar=liar)  # type: ignore[arg-type]
            return await racers[0].race(work_s), racers[0], bad

    return virtual_time.run(scenario())


@pytest.mark.parametrize("shown", [None, b"x" * 32], ids=["withheld", "changed"])
def test_the_race_begins_anew_without_who_does_not_reveal(tmp_path: Path, shown: bytes | None) -> None:
    async def conceal(liar: Racer, stream: Stream) -> None:
        call = read_opening(await stream.receive(), stream.peer.node)
        if isinstance(call, Call):
            context = liar.races.context
            await send(stream, Commit(enter(call.terms, call.round, SECRET, ((1,), 0.0), context.key, MESH_ID)))
            await expect(stream, Roster, 60)
            if shown is None:
                await asyncio.sleep(LATER_S)
            else:
                await send(stream, Reveal(shown))

    called, _, bad = raced_with(tmp_path, conceal)
    assert called.state == "over"
    assert called.race is not None
    assert called.race.agreed.round == 1
    assert bad.node not in called.race.claimants
    assert bad.node in called.absent
    assert len(verdicts(called)) == 2
    first_secrets = {entry.commitment for entry in called.race.agreed.entries}
    assert len(first_secrets) == 2


async def begin_to_verify(liar: Racer, stream: Stream, hello: Hello) -> None:
    """Up to where an honest verifier shows its part of the key."""
    running = await liar.races._race(hello.race)
    assert running is not None
    own = pledge(running.race, stream.peer.node, hello.commitment, SECRET, liar.key)
    await send(stream, Promise(own, promise_of(SECRET)))
    await expect(stream, Meet, 60)


def lying_verifier(lie: Callable[[Stream], object]) -> Callable[[Racer, Stream], object]:
    """Takes part as it should, until it has met a prover."""

    async def serve(liar: Racer, stream: Stream) -> None:
        record = await stream.receive()
        opening = read_opening(record, stream.peer.node)
        if isinstance(opening, Hello):
            await begin_to_verify(liar, stream, opening)
            await lie(stream)  # type: ignore[misc]
        elif isinstance(opening, Call):
            await liar.races._take_part(stream, opening)

    return serve


def test_a_secret_before_the_claim_voids_the_exchange(tmp_path: Path) -> None:
    heard: list[object] = []

    async def early(stream: Stream) -> None:
        await send(stream, Shown(SECRET))
        await send(stream, Sample(SECRET))
        try:
            heard.append(await expect(stream, Claim, 60))
        except MeshError as error:
            heard.append(error)

    called, one, bad = raced_with(tmp_path, lying_verifier(early), honest=1)
    assert called.running is not None
    assert "before the work was committed to" in called.running.unproved[bad.node]
    assert not any(isinstance(one, Claim) for one in heard)
    assert verdicts(called) == {(bad.node, one.node, "attested")}


def test_another_secret_than_the_promised_opens_nothing(tmp_path: Path) -> None:
    async def other(stream: Stream) -> None:
        await send(stream, Shown(SECRET))
        await expect(stream, Claim, 60)
        await send(stream, Sample(b"t" * 32))
        await stream.receive()

    called, _, bad = raced_with(tmp_path, lying_verifier(other), honest=1)
    assert called.running is not None
    assert "another secret" in called.running.unproved[bad.node]


def test_a_withheld_sample_attests_nothing_and_stops_nobody(tmp_path: Path) -> None:
    async def withhold(stream: Stream) -> None:
        await send(stream, Shown(SECRET))
        await expect(stream, Claim, 60)
        await asyncio.sleep(LATER_S)

    called, one, bad = raced_with(tmp_path, lying_verifier(withhold))
    assert called.running is not None
    assert bad.node in called.running.unproved
    assert (one.node, bad.node, "attested") not in verdicts(called)
    assert sum(prover == one.node for prover, _, _ in verdicts(called)) == 1


def test_who_withholds_its_part_of_a_key_has_no_say_in_the_next(tmp_path: Path) -> None:
    async def withhold(stream: Stream) -> None:
        await asyncio.sleep(LATER_S)

    called, one, bad = raced_with(tmp_path, lying_verifier(withhold))
    assert called.running is not None
    assert bad.node in called.running.unproved
    assert [verifier for prover, verifier, _ in verdicts(called) if prover == one.node] != []
    assert all(verifier != bad.node for _, verifier, _ in verdicts(called))
    (attestation,) = [attestation for attestation in called.attestations if attestation.prover == one.node]
    assert attestation.findings.taken_s < 7  # what the one withheld is not counted by the other


class Changing(Hands):
    """Opens what it did not commit to."""

    async def open(self, root: bytes, secret: bytes) -> bytes:
        samples = await Hands.open(self, root, secret)
        return samples[:-1] + bytes([samples[-1] ^ 1])


@pytest.mark.parametrize(
    ("hands", "refusal"),
    [
        (Changing(), "fraud"),
        (Hands(work_s=200.0), "within"),
        (Hands(found=8), "fewer than 16 nonces"),
    ],
    ids=["opening changed after the secret", "claim after its time", "too little to say anything"],
)
def test_a_prover_out_of_order_gets_no_proof(tmp_path: Path, hands: Hands, refusal: str) -> None:
    async def scenario() -> tuple[Called, Racer]:
        async with race_field(tmp_path) as field:
            one, bad = await field.enter(), await field.enter(hands)
            return await one.race(), bad

    called, bad = virtual_time.run(scenario())
    assert called.running is not None
    said = [verdict for prover, _, verdict in verdicts(called) if prover == bad.node]
    assert refusal in (*said, called.running.refused.get(bad.node, "")) or refusal in called.running.refused[bad.node]
    assert "attested" not in said


# What third peers make of it


async def overheard(field: Field, hands: Hands | None = None) -> tuple[Attestation, Racer, Racer]:
    """An attestation of a prover by its verifier, in a race that a third node took no part in: verifier, third."""
    verifier, prover = await field.enter(), await field.enter(hands)
    called = await verifier.race()
    third = await field.enter(taking="off")
    (attestation,) = [one for one in called.attestations if one.prover == prover.node]
    return attestation, verifier, third


@pytest.mark.parametrize("cheat", ["", "int8"])
def test_a_third_peer_fetches_the_transcript_and_confirms_the_verdict(tmp_path: Path, cheat: str) -> None:
    async def scenario() -> None:
        async with race_field(tmp_path) as field:
            attestation, _, third = await overheard(field, Hands(cheat=cheat))
            assert attestation.findings.verdict == ("fraud" if cheat else "attested")
            assert await third.races.check(attestation) is Outcome.CONFIRMED
            path = await third.races.file_of(attestation.findings.transcript)
            assert path is not None
            assert path.parent == third.races.context.store.folder

    virtual_time.run(scenario())


def test_a_forged_verdict_is_refuted_by_whoever_looks(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with race_field(tmp_path) as field:
            attestation, verifier, third = await overheard(field)
            slander = msgspec.structs.replace(attestation.findings, verdict="fraud")
            assert await third.races.check(attest(slander, verifier.key, MESH_ID)) is Outcome.REFUTED
            swollen = msgspec.structs.replace(attestation.findings, found=2 * FOUND)
            assert await third.races.check(attest(swollen, verifier.key, MESH_ID)) is Outcome.REFUTED

    virtual_time.run(scenario())


def test_a_verifier_that_alters_a_claim_convicts_itself(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with race_field(tmp_path) as field:
            attestation, verifier, third = await overheard(field)
            store = verifier.races.context.store
            kept = store.find(attestation.findings.transcript)
            assert kept is not None
            real = decode_transcript(kept.transcript, None)
            twice = real.claim.nonces[:8] + real.claim.nonces[:8] + real.claim.nonces[16:]
            forged = encode_transcript(
                msgspec.structs.replace(real, claim=msgspec.structs.replace(real.claim, nonces=twice))
            )
            slander = msgspec.structs.replace(attestation.findings, verdict="fraud", transcript=digest_of(forged))
            signed = attest(slander, verifier.key, MESH_ID)
            store.keep(forged, signed.signed)
            assert await third.races.check(signed) is Outcome.REFUTED
            nowhere = msgspec.structs.replace(attestation.findings, transcript=b"n" * 32)
            assert await third.races.check(attest(nowhere, verifier.key, MESH_ID)) is Outcome.UNAVAILABLE

    virtual_time.run(scenario())


def test_nobody_races_with_who_wants_none_or_is_at_work(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with race_field(tmp_path) as field:
            one, off, busy = await field.enter(), await field.enter(taking="off"), await field.enter()
            busy.races.is_busy = lambda: True
            called = await one.race()
            assert called.state == "failed"
            assert "takes no part in races" in called.absent[off.node]
            assert "works for somebody" in called.absent[busy.node]
            busy.races.is_busy = lambda: False
            assert (await one.race()).state == "over"

    virtual_time.run(scenario())


def test_nothing_is_revealed_to_a_race_with_strangers_in_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with race_field(tmp_path) as field:
            one, other, wary = await field.enter(), await field.enter(), await field.enter()
            wary.races.context = replace(wary.races.context, is_member=lambda node: node != other.node)
            called = await one.race()
            assert called.race is not None
            assert set(called.race.claimants) == {one.node, other.node}
            assert "reveal" in called.absent[wary.node]

    virtual_time.run(scenario())


def test_a_node_calls_a_race_of_its_own_accord_once_a_period_and_not_while_it_is_at_work(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with race_field(tmp_path) as field:
            calling, _ = await field.enter(taking="call"), await field.enter()

            def calls() -> list[Called]:
                return [calling.races.called] if calling.races.called is not None else []

            calling.races.is_busy = lambda: True
            await asyncio.sleep(600)
            assert not calls()
            calling.races.is_busy = lambda: False
            await asyncio.sleep(600)
            (first,) = calls()
            assert first.state == "over"
            await asyncio.sleep(calling.races.options.period_s - 700)
            assert calls() == [first]
            await asyncio.sleep(600)
            assert calls() != [first]

    virtual_time.run(scenario())


class Shared(Hands):
    """One device behind two identities: it works for one after the other."""

    def __init__(self, device: asyncio.Lock) -> None:
        super().__init__()
        self._device = device

    async def generate(self, job: Generate, told: Callable[[Progress], None]) -> Generated:
        async with self._device:
            return await super().generate(job, told)


def test_one_device_behind_two_identities_is_attested_about_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with race_field(tmp_path) as field:
            one, device = await field.enter(), asyncio.Lock()
            both = {(await field.enter(Shared(device))).node for _ in range(2)}
            called = await one.race(work_s=5.0)
            taken = {
                found.prover: found.findings.taken_s for found in called.attestations if found.verifier == one.node
            }
            assert taken.keys() == both
            assert sorted(round(seconds) for seconds in taken.values()) == [5, 10]

    virtual_time.run(scenario())
