"""A verifier in one race: its part of the prover's key, the clock, the samples, the transcript and the verdict."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Literal

from meshd.attest.attestation import LIFETIME_S, MAX_WORK_S, PROFILES, Attestation, Findings, attest, lower_flop_per_s
from meshd.attest.epoch import commitment
from meshd.attest.order import ANSWER_S, GRACE_S, OutOfOrder, VerifierOrder, promise_of
from meshd.attest.pairing import claim_body, fault_of_pledges, fault_of_secrets, key_of, openings_body, pledge
from meshd.attest.race_context import AGREE_S, NotNow, RaceContext, RunningRace, expect, send
from meshd.attest.race_message import Claim, Declined, Hello, Meet, Openings, Promise, Sample, Shown, Verdict
from meshd.attest.race_worker import NotComputed
from meshd.attest.transcript import Judged, Transcript, digest_of, encode_transcript
from transport.errors import MeshError, ProtocolError, StreamReset
from transport.identity import node_id, short, verify
from transport.interface import NodeId, Stream

logger = logging.getLogger("meshd.attest")

MAX_TRIES = 3


@dataclass(frozen=True, slots=True)
class _Met:
    """What a prover and its verifiers made its key of. pledged, sample: the verifier's secrets.  started: its clock."""

    meet: Meet
    pledged: bytes
    sample: bytes
    started: float


async def verify_prover(context: RaceContext, running: RunningRace, stream: Stream, hello: Hello) -> None:
    """Serve one prover of this race to its end. Raises MeshError."""
    prover = stream.peer.node
    if prover not in running.race.provers(context.node):
        raise ProtocolError(f"node {short(prover)} proves to a verifier that is not its own")
    running.tries[prover] += 1
    if running.tries[prover] > MAX_TRIES or prover in running.attested:
        await send(stream, Declined("there is one proof of each prover"))
        return
    running.proving.add(prover)
    try:
        met = await _meet(context, running, stream, hello)
        transcript = await _hear(context, running, stream, met)
        attestation = await _conclude(context, running, transcript)
        running.settle(prover, attestation)
        await send(stream, Verdict(attestation.signed))
        await stream.finish()
    except (MeshError, OutOfOrder, NotComputed) as error:
        # Who lets go of this key may come with another, because one of its verifiers withheld its part.
        is_final = not isinstance(error, StreamReset) or running.tries[prover] == MAX_TRIES
        running.settle(prover, None, str(error), is_final=is_final)
        logger.info("nothing is attested of node %s: %s", short(prover), error)
        if isinstance(error, MeshError):
            raise
        await send(stream, Declined(str(error)[:200]))
        await stream.finish()
    finally:
        running.proving.discard(prover)


async def _meet(context: RaceContext, running: RunningRace, stream: Stream, hello: Hello) -> _Met:
    race, prover = running.race, stream.peer.node
    pledged, sample = context.random_bytes(32), context.random_bytes(32)
    own, greeted = pledge(race, prover, hello.commitment, pledged, context.key), asyncio.get_running_loop().time()
    await send(stream, Promise(own, promise_of(sample)))
    meet = await expect(stream, Meet, AGREE_S)
    if commitment(prover, meet.secret) != hello.commitment:
        raise ProtocolError(f"node {short(prover)} showed another secret than it had committed to")
    if fault := fault_of_pledges(race, prover, hello.commitment, meet.pledges):
        raise ProtocolError(f"node {short(prover)}: {fault}")
    if own not in meet.pledges:
        raise ProtocolError(f"node {short(prover)} left out the pledge of whom it proves to")
    started = _clock(running, prover, meet, greeted)
    await send(stream, Shown(pledged))
    return _Met(meet, pledged, sample, started)


def _clock(running: RunningRace, prover: NodeId, meet: Meet, greeted: float) -> float:
    """Since when a prover's time is counted: since the race began, for all in the same window.

    Where a verifier of its last key is not in this one, since it came with this: that one withheld its part, and its
    prover is not to pay for it.
    """
    verifiers = frozenset(node_id(one.public) for one in meet.pledges)
    before = running.met.get(prover, frozenset())
    running.met[prover] = verifiers
    return greeted if before - verifiers else running.started


async def _hear(context: RaceContext, running: RunningRace, stream: Stream, met: _Met) -> Transcript:
    """The claim and what was opened of it, each in its time and signed."""
    loop, terms, prover = asyncio.get_running_loop(), running.race.terms, stream.peer.node
    order = VerifierOrder(met.sample, met.started, terms.work_s)
    claim = await expect(stream, Claim, met.started + terms.work_s + GRACE_S - loop.time())
    secret = order.commit(claim.root, loop.time())
    signed = _check_claim(context, running, prover, met, claim)
    await send(stream, Sample(secret))
    openings = await expect(stream, Openings, ANSWER_S)
    order.open(loop.time())
    if not verify(signed, openings.signature, openings_body(claim.signature, secret, openings.samples)):
        raise ProtocolError(f"node {short(prover)} did not sign what it opened")
    taken_s = min(order.taken_s, MAX_WORK_S)
    parts = (met.meet.secret, met.meet.pledges, claim, secret, openings, taken_s)
    return Transcript(running.race.agreed, prover, context.node, *parts)


def _check_claim(context: RaceContext, running: RunningRace, prover: NodeId, met: _Met, claim: Claim) -> bytes:
    """That the prover signed it, under the key that was agreed on: the prover's public key. Raises ProtocolError."""
    race, pledges = running.race, met.meet.pledges
    if len(claim.secrets) != len(pledges) or fault_of_secrets(pledges, claim.secrets):
        raise ProtocolError(f"node {short(prover)} claims under another key than the one that was agreed on")
    key = key_of(race, prover, met.meet.secret, pledges, claim.secrets)
    promise, public = promise_of(met.sample), race.entry(prover).public
    body = claim_body(race, context.node, promise, key, claim.root, claim.nonces + claim.distances)
    if not verify(public, claim.signature, body):
        raise ProtocolError(f"node {short(prover)} did not sign its claim")
    return public


async def _conclude(context: RaceContext, running: RunningRace, transcript: Transcript) -> Attestation:
    """Judge, sign, and keep. Raises NotNow for a proof that shows nothing, and NotComputed."""
    encoded = encode_transcript(transcript)
    judged = await context.computing.judge(encoded)
    prover = NodeId(transcript.prover)
    if judged.verdict == "void":
        raise NotNow(f"the proof of node {short(prover)} shows nothing: {judged.reason}")
    if prover in running.attested:
        raise NotNow(f"there is one proof of node {short(prover)}, and this is another")
    findings = findings_of(transcript, judged, digest_of(encoded), int(context.unix_time()))
    attestation = attest(findings, context.key, context.mesh_id)
    # Kept before it is told: whoever hears of it may ask for it at once.
    await asyncio.to_thread(context.store.keep, encoded, attestation.signed)
    if judged.verdict == "fraud":
        logger.warning("the proof of node %s fails: %s", short(prover), judged.reason)
    return context.attest(findings)


def findings_of(transcript: Transcript, judged: Judged, digest: bytes, now: int) -> Findings:
    """What there is to sign of a transcript that was judged."""
    race, terms = transcript.agreed, transcript.agreed.terms
    entry = next(one for one in race.entries if node_id(one.public) == transcript.prover)
    found = len(transcript.claim.nonces) // 8
    rate = lower_flop_per_s(PROFILES[terms.profile], found, terms.share, transcript.taken_s)
    verdict: Literal["attested", "fraud"] = "attested" if judged.verdict == "attested" else "fraud"
    return Findings(
        prover=transcript.prover,
        verifier=transcript.verifier,
        epoch=terms.epoch,
        profile=terms.profile,
        groups=entry.groups,
        found=found,
        share=terms.share,
        taken_s=transcript.taken_s,
        flop_per_s=rate,
        vram_gb=entry.vram_gb,
        samples=judged.samples,
        mismatches=judged.mismatches,
        verdict=verdict,
        transcript=digest,
        made=now,
        expires=now + LIFETIME_S,
    )
