"""A prover in one race: agree with its verifiers on a key, search, commit, and open what each of them picks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from meshd.attest.attestation import Attestation, open_attestation
from meshd.attest.epoch import commitment
from meshd.attest.order import ANSWER_S, GRACE_S, OutOfOrder, ProverOrder
from meshd.attest.pairing import claim_body, fault_of_pledges, fault_of_secrets, key_of, openings_body
from meshd.attest.race_context import AGREE_S, NotNow, RaceContext, RunningRace, expect, open_stream, send
from meshd.attest.race_job import Generate, Generated, Progress
from meshd.attest.race_message import (
    Claim,
    Declined,
    Hello,
    Meet,
    Openings,
    Pledge,
    Promise,
    Sample,
    Shown,
    Verdict,
    read,
)
from meshd.attest.race_worker import NotComputed
from transport.errors import MeshError, ProtocolError, ResetCode
from transport.identity import node_id, short
from transport.interface import NodeId, Record, Stream

logger = logging.getLogger("meshd.attest")

MAX_TRIES = 3
"""Keys that a prover agrees on anew, each without a verifier that withheld its part of the last."""
JUDGE_S = 120.0
LEAST_SHARE = 0.25
"""Of the time to work, where agreeing has taken much of it."""


class Unproved(Exception):
    """This node has nothing to show in this race."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """A key that is agreed on: with whom, and of what, by NodeId. started: since when its verifiers count."""

    started: float
    own: bytes
    streams: dict[NodeId, Stream]
    promises: dict[NodeId, Promise]
    pledges: tuple[Pledge, ...]
    secrets: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class _Proof:
    """A proof under way. key: of its inputs.  work: what is found, once it is."""

    context: RaceContext
    running: RunningRace
    pairs: Pairs
    key: int
    work: asyncio.Future[Generated]

    def claim(self, node: NodeId, found: Generated) -> Claim:
        """What one verifier gets, signed for it."""
        promise, race = self.pairs.promises[node].sample, self.running.race
        body = claim_body(race, node, promise, self.key, found.root, found.nonces + found.distances)
        signature = self.context.key.sign(body)
        return Claim(self.pairs.secrets, found.nonces, found.distances, found.root, signature)


async def prove(context: RaceContext, running: RunningRace) -> None:
    """Prove this node's compute to its verifiers; what they attest comes to lie in `running`."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            pairs = await _agree(context, running, stack)
            key = key_of(running.race, context.node, pairs.own, pairs.pledges, pairs.secrets)
            await _work(_Proof(context, running, pairs, key, asyncio.get_running_loop().create_future()))
        except (Unproved, NotComputed) as error:
            logger.warning("this node proved nothing: %s", error)
            for verifier in running.race.verifiers(context.node):
                running.unproved.setdefault(verifier, str(error))


# A key that nobody could choose


async def _agree(context: RaceContext, running: RunningRace, stack: contextlib.AsyncExitStack) -> Pairs:
    verifiers, started = list(running.race.verifiers(context.node)), running.started
    for _ in range(MAX_TRIES):
        own = context.random_bytes(32)
        streams, promises = await _greet(context, running, verifiers, own, stack)
        if not promises:
            break
        pledges = tuple(promises[node].pledge for node in sorted(promises))
        shown = await _show(running, streams, Meet(own, pledges))
        if len(shown) == len(pledges):
            secrets = tuple(shown[node] for node in sorted(shown))
            return Pairs(started, own, streams, promises, pledges, secrets)
        # A verifier that has seen this part of the key and withholds its own has no say in the next one.
        verifiers, started = sorted(shown), asyncio.get_running_loop().time()
        for stream in streams.values():
            stream.reset(ResetCode.CANCELLED)
    raise Unproved("no verifier agreed with it on a key")


async def _greet(
    context: RaceContext,
    running: RunningRace,
    verifiers: Sequence[NodeId],
    own: bytes,
    stack: contextlib.AsyncExitStack,
) -> tuple[dict[NodeId, Stream], dict[NodeId, Promise]]:
    """Those verifiers that promise something, and what."""
    streams: dict[NodeId, Stream] = {}
    promises: dict[NodeId, Promise] = {}
    hello = Hello(running.race.digest, commitment(context.node, own))

    async def greet(node: NodeId) -> None:
        stream = await open_stream(context.transport, node)
        stack.callback(stream.reset, ResetCode.CANCELLED)
        await send(stream, hello)
        promise = await expect(stream, Promise, AGREE_S)
        if node_id(promise.pledge.public) != node:
            raise ProtocolError(f"node {short(node)} pledged in another's name")
        if fault := fault_of_pledges(running.race, context.node, hello.commitment, (promise.pledge,)):
            raise ProtocolError(f"node {short(node)}: {fault}")
        streams[node], promises[node] = stream, promise

    async with asyncio.TaskGroup() as group:
        for node in verifiers:
            group.create_task(_fenced(running, node, partial(greet, node)), name=f"greet {short(node)}")
    return streams, promises


async def _show(running: RunningRace, streams: dict[NodeId, Stream], meet: Meet) -> dict[NodeId, bytes]:
    """Show this node's part of the key: the parts of those verifiers that show theirs."""
    shown: dict[NodeId, bytes] = {}
    pledged = {node_id(one.public): one for one in meet.pledges}

    async def show(node: NodeId, stream: Stream) -> None:
        await send(stream, meet)
        secret = (await expect(stream, Shown, AGREE_S)).secret
        if fault := fault_of_secrets((pledged[node],), (secret,)):
            raise ProtocolError(f"node {short(node)}: {fault}")
        shown[node] = secret

    async with asyncio.TaskGroup() as group:
        for node, stream in streams.items():
            group.create_task(_fenced(running, node, partial(show, node, stream)), name=f"meet {short(node)}")
    return shown


# The work, and what is shown of it


async def _work(proof: _Proof) -> None:
    """Search while listening: whoever shows the secret of its samples before the claim has no part in it."""
    async with asyncio.TaskGroup() as group:
        for node, stream in proof.pairs.streams.items():
            answer = partial(_answer, proof, node, stream)
            group.create_task(_fenced(proof.running, node, answer), name=f"prove to {short(node)}")
        try:
            proof.work.set_result(await _search(proof))
        except NotComputed as error:
            proof.work.set_exception(Unproved(str(error)))
            proof.work.exception()  # there may be nobody left to tell


async def _search(proof: _Proof) -> Generated:
    context, running, loop = proof.context, proof.running, asyncio.get_running_loop()
    terms, spent_s = running.race.terms, loop.time() - proof.pairs.started
    left_s = max(LEAST_SHARE * terms.work_s, terms.work_s - spent_s)

    def told(progress: Progress) -> None:
        running.found, running.spent_s = progress.found, progress.spent_s

    job = Generate(running.race.agreed, context.node, proof.key, left_s, context.groups)
    found = await context.computing.generate(job, told)
    running.found, running.spent_s = len(found.nonces) // 8, loop.time() - proof.pairs.started
    return found


async def _answer(proof: _Proof, node: NodeId, stream: Stream) -> None:
    """Commit to what was found, and open what this verifier then picks."""
    context, loop, order = proof.context, asyncio.get_running_loop(), ProverOrder(proof.pairs.promises[node].sample)
    async with asyncio.TaskGroup() as group:
        hearing = group.create_task(stream.receive(), name="the secret of the samples")
        try:
            found = await _unless_unproved(proof.work, stream)
            if hearing.done():
                raise OutOfOrder("the verifier said something before the work was committed to")
            order.commit(found.root, loop.time())
            claim = proof.claim(node, found)
            await send(stream, claim)
            async with asyncio.timeout(ANSWER_S + GRACE_S):
                secret = _sample(await asyncio.shield(hearing), node)
        finally:
            hearing.cancel()
    root = order.open(secret, loop.time())
    samples = await context.computing.open(root, secret)
    await send(stream, Openings(samples, context.key.sign(openings_body(claim.signature, secret, samples))))
    verdict = await expect(stream, Verdict, JUDGE_S)
    await stream.finish()
    proof.running.proved[node] = _attested(context, node, verdict)


async def _unless_unproved(work: asyncio.Future[Generated], stream: Stream) -> Generated:
    """What was found; where it is nothing, the verifier need not wait for it."""
    try:
        return await asyncio.shield(work)
    except Unproved as error:
        await send(stream, Declined(str(error)[:200]))
        await stream.finish()
        raise


def _sample(record: Record | None, node: NodeId) -> bytes:
    message = read(record, Sample, node)
    if not isinstance(message, Sample):
        raise NotNow(f"node {short(node)} declines: {message.reason}")
    return message.secret


def _attested(context: RaceContext, node: NodeId, verdict: Verdict) -> Attestation:
    attestation = open_attestation(verdict.signed, context.mesh_id, node)
    if (attestation.prover, attestation.verifier) != (context.node, node):
        raise ProtocolError(f"node {short(node)} attested something else than this proof")
    return attestation


async def _fenced(running: RunningRace, node: NodeId, work: Callable[[], Awaitable[None]]) -> None:
    """One verifier's failing is no other's."""
    try:
        await work()
    except* (MeshError, OutOfOrder, NotComputed, Unproved, TimeoutError) as failed:
        reason = str(failed.exceptions[0]) or type(failed.exceptions[0]).__name__
        running.unproved[node] = reason
        logger.info("nothing was proved to node %s: %s", short(node), reason)
