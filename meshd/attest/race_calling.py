"""How a race comes about: one node calls, the others take part. Both ends of the rounds in which its seed is made.

A round in which somebody withholds its reveal is begun anew without that node, up to `MAX_ROUNDS` in all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from meshd.attest.attestation import Attestation, open_attestation
from meshd.attest.epoch import RevealRefused
from meshd.attest.race import Agreed, Gathering, Race, agree, enter, fault_of_roster, fault_of_terms
from meshd.attest.race_context import AGREE_S, NotNow, RaceContext, expect, open_stream, send
from meshd.attest.race_message import (
    MAX_CLAIMANTS,
    MAX_ROUNDS,
    Call,
    Commit,
    Entry,
    Report,
    Reveal,
    Roster,
    Start,
    Terms,
    read_round,
)
from transport.errors import MeshError, ProtocolError, ResetCode, TimedOut
from transport.identity import node_id, short
from transport.interface import NodeId, Stream

logger = logging.getLogger("meshd.attest")
T = TypeVar("T")


class NoRace(Exception):
    """No race came about; the message says why."""


@dataclass(slots=True)
class Claimants:
    """The nodes that a caller races with, on whose streams the race is agreed on. absent: who is not in it, and why."""

    streams: dict[NodeId, Stream] = field(default_factory=dict)
    absent: dict[NodeId, str] = field(default_factory=dict)

    def drop(self, node: NodeId, reason: str) -> None:
        self.absent[node] = reason
        stream = self.streams.pop(node, None)
        if stream is not None:
            stream.reset(ResetCode.CANCELLED)

    def close(self) -> None:
        """Let go of all streams that are not at their end."""
        for stream in self.streams.values():
            stream.reset(ResetCode.CANCELLED)

    async def each(self, step: Callable[[NodeId], Awaitable[T]], nodes: Sequence[NodeId]) -> dict[NodeId, T]:
        """What `step` gives for each of `nodes` at once; those with whom it fails are out."""
        given: dict[NodeId, T] = {}

        async def take(node: NodeId) -> None:
            try:
                given[node] = await step(node)
            except MeshError as error:
                self.drop(node, str(error))

        async with asyncio.TaskGroup() as group:
            for node in nodes:
                group.create_task(take(node), name=f"race with {short(node)}")
        return given


# The caller


async def call_race(context: RaceContext, terms: Terms, nodes: Sequence[NodeId], claimants: Claimants) -> Race:
    """Agree on a race with those of `nodes` that take part. Raises NoRace.

    Afterwards `claimants` holds their streams, on which `start` begins it.
    """
    left = list(nodes[: MAX_CLAIMANTS - 1])
    for number in range(MAX_ROUNDS):
        try:
            return await _round(context, terms, number, left, claimants)
        except RevealRefused as refused:
            for node in refused.nodes:
                claimants.drop(node, "it did not reveal what it had committed to")
            left = list(claimants.streams)
    raise NoRace(f"in {MAX_ROUNDS} rounds somebody withheld what it had committed to")


async def _round(
    context: RaceContext, terms: Terms, number: int, nodes: Sequence[NodeId], claimants: Claimants
) -> Race:
    own = context.random_bytes(32)
    gathering = Gathering.begin(context.mesh_id, terms, number)
    gathering.commit(context.node, enter(terms, number, own, context.layout, context.key, context.mesh_id))

    async def invite(node: NodeId) -> None:
        if node not in claimants.streams:
            claimants.streams[node] = await open_stream(context.transport, node)
        stream = claimants.streams[node]
        await send(stream, Call(terms, number))
        gathering.commit(node, (await expect(stream, Commit, AGREE_S)).entry)

    await claimants.each(invite, nodes)
    roster = gathering.roster()
    if roster is None:
        raise NoRace(_nobody(claimants))

    async def ask(node: NodeId) -> None:
        await send(claimants.streams[node], roster)
        gathering.reveal(node, (await expect(claimants.streams[node], Reveal, AGREE_S)).secret)

    await claimants.each(ask, list(claimants.streams))
    gathering.reveal(context.node, own)
    return gathering.conclude()


async def start(claimants: Claimants, race: Race) -> None:
    """Tell all claimants what was revealed: the race is on."""
    message = Start(race.agreed.secrets)
    await claimants.each(lambda node: send(claimants.streams[node], message), list(claimants.streams))


async def reports(context: RaceContext, claimants: Claimants, limit_s: float) -> list[Attestation]:
    """What the others attest, as far as they say so within `limit_s`."""

    async def hear(node: NodeId) -> list[Attestation]:
        stream = claimants.streams[node]
        report = await expect(stream, Report, limit_s)
        await stream.finish()
        return [_of(open_attestation(signed, context.mesh_id, node), node) for signed in report.attestations]

    heard = await claimants.each(hear, list(claimants.streams))
    return [attestation for node in sorted(heard) for attestation in heard[node]]


def _of(attestation: Attestation, node: NodeId) -> Attestation:
    if attestation.verifier != node:
        raise ProtocolError(f"node {short(node)} reported what another attests")
    return attestation


def _nobody(claimants: Claimants) -> str:
    reasons = "; ".join(f"{short(node)}: {reason}" for node, reason in claimants.absent.items())
    return f"nobody takes part{f' ({reasons})' if reasons else ': no other member is connected'}"


# A claimant


async def take_part(context: RaceContext, stream: Stream, call: Call) -> Race:
    """Agree on a race that a peer calls. Raises NotNow where it is none to take part in, and MeshError."""
    caller = stream.peer.node
    if fault := fault_of_terms(call.terms, caller, context.unix_time()):
        raise NotNow(fault)
    message: Start | Call = call
    for number in range(MAX_ROUNDS):
        if not isinstance(message, Call) or message != Call(call.terms, number):
            raise ProtocolError(f"expected round {number} of its race from node {short(caller)}, got something else")
        secret = context.random_bytes(32)
        entry = enter(call.terms, number, secret, context.layout, context.key, context.mesh_id)
        await send(stream, Commit(entry))
        entries = await _listed(context, stream, call.terms, number, entry)
        await send(stream, Reveal(secret))
        message = await _next(stream)
        if isinstance(message, Start):
            return _agreed(Agreed(context.mesh_id, call.terms, number, entries, message.secrets), caller)
    raise ProtocolError(f"node {short(caller)} calls more than {MAX_ROUNDS} rounds")


async def _listed(context: RaceContext, stream: Stream, terms: Terms, number: int, entry: Entry) -> tuple[Entry, ...]:
    """The claimants, of whom this node is one. Nothing is revealed for another list."""
    entries = (await expect(stream, Roster, AGREE_S * 2)).entries
    # A signature of each is checked: too long for the loop.
    fault = await asyncio.to_thread(fault_of_roster, entries, terms, number, context.mesh_id)
    if fault or entry not in entries:
        raise ProtocolError(f"node {short(stream.peer.node)} called a race: {fault or 'this node is not in it'}")
    strangers = [node for one in entries if not context.is_member(node := node_id(one.public))]
    if strangers:
        # Made-up claimants would be verifiers of the caller's own.
        raise NotNow(f"{len(strangers)} claimants are no members that are known here")
    return entries


async def _next(stream: Stream) -> Start | Call:
    try:
        async with asyncio.timeout(AGREE_S * 2):
            return read_round(await stream.receive(), stream.peer.node)
    except TimeoutError as error:
        raise TimedOut("the race that was agreed on did not begin") from error


def _agreed(agreed: Agreed, caller: NodeId) -> Race:
    try:
        return agree(agreed)
    except (RevealRefused, ValueError) as error:
        raise ProtocolError(f"node {short(caller)} began a race that was not agreed on: {error}") from error
