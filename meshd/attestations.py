"""Tells the mesh what this node found of others' proofs, hears what they found, and has transcripts checked.

`meshd.attest.ledger` decides what counts. Whoever places work asks `believed` how far a node's claims go.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from gossip.view import NodeView, Status, View
from meshd.attest.attestation import (
    NOTHING,
    POC_FACT,
    Attestation,
    Findings,
    PhaseName,
    PocFact,
    Signed,
    Signer,
    attest,
    decode_fact,
    encode_fact,
    open_attestation,
)
from meshd.attest.ledger import Ledger, Outcome, Quarantine
from meshd.attest.worth import Trust, share_of_claim
from meshd.poc_status import Proof, Proofs
from transport.errors import ProtocolError
from transport.identity import node_id, short
from transport.interface import NodeId, Role

logger = logging.getLogger("meshd.attest")

CHECK_DEADLINE_S = 120.0
LOOK_S = 30.0
"""How often what has expired is dropped, and a transcript that could not be had is asked for again, at least."""
PAUSE_S = 0.25
"""Between two looks at a view that keeps changing."""
SHARE_AGE_S = 5.0

Check = Callable[[Attestation], Awaitable[Outcome]]
"""Fetches the transcript that an attestation names, and judges it here; UNAVAILABLE where it cannot, never an error."""


async def check_nothing(attestation: Attestation) -> Outcome:
    """For a node that runs no races: it has nobody to judge transcripts, and believes no word of fraud."""
    return Outcome.UNAVAILABLE


class Mesh(Protocol):
    """Of gossip's runner."""

    @property
    def view(self) -> View: ...

    async def changed(self, after_version: int) -> View: ...

    def publish(self, key: str, value: bytes, *, is_urgent: bool = False) -> None: ...


@dataclass(slots=True)
class Attestations:
    """One node's word on others, and theirs. key: this node's.  clock: Unix time.  check: set by who has the means."""

    key: Signer
    mesh_id: bytes
    mesh: Mesh
    trust: Trust = Trust.MEMBERS
    clock: Callable[[], float] = time.time
    check: Check = check_nothing
    ledger: Ledger = field(init=False)
    _phase: PhaseName = "idle"
    _claimed_flop_per_s: float = 0.0
    _told: bytes = b""
    _read: dict[NodeId, tuple[bytes, PocFact]] = field(default_factory=dict)
    _shares: dict[NodeId, float] = field(default_factory=dict)
    _shares_at: float = 0.0

    def __post_init__(self) -> None:
        self.ledger = Ledger(node_id(self.key.public))

    # What this node says

    def attest(self, findings: Findings) -> Attestation:
        """Sign what was found, keep it and tell it. ValueError when it contradicts itself, or is another's."""
        attestation = attest(findings, self.key, self.mesh_id)
        self.ledger.hear(attestation, self.clock())
        logger.info("%s of %s: %s", findings.verdict, short(attestation.prover), _in_words(findings))
        self._changed()
        return attestation

    def recall(self, kept: Iterable[Signed]) -> None:
        """Take what was attested before this start; what this node said then is told again while it counts."""
        for signed in kept:
            try:
                self.ledger.hear(open_attestation(signed, self.mesh_id, self.ledger.node), self.clock())
            except ProtocolError as error:
                logger.info("forgetting an attestation on disk: %s", error)
        self._changed()

    def claim(self, flop_per_s: float) -> None:
        """Say how fast this node is, as the lower bound of its own count; 0 where it does not know."""
        self._claimed_flop_per_s = flop_per_s
        self._changed()

    def enter(self, phase: PhaseName) -> None:
        """Say what this node's proof does now."""
        self._phase = phase
        self._changed()

    def _changed(self) -> None:
        self._shares.clear()
        own = self.ledger.own(self.clock())
        is_silent = not own and self._phase == "idle" and not self._claimed_flop_per_s
        value = b"" if is_silent else encode_fact(own, self._phase, self._claimed_flop_per_s)
        if value != self._told:
            self._told = value
            self.mesh.publish(POC_FACT, value)

    # What placement asks

    def believed(self, node: NodeId) -> float:
        """What part of its claimed speeds `node` is believed, 0 … 1. 0: it gets no work of this node."""
        now = self.clock()
        if node == self.ledger.node:
            return 1.0
        if abs(now - self._shares_at) > SHARE_AGE_S:
            self._shares.clear()
            self._shares_at = now
        if node not in self._shares:
            self._shares[node] = self._share(node, now)
        return self._shares[node]

    def _share(self, node: NodeId, now: float) -> float:
        if self.ledger.quarantine(node, now):
            return 0.0
        view = self.mesh.view
        members = sum(entry.role is not Role.CLIENT and entry.status <= Status.SUSPECT for entry in view.nodes)
        claimed = self.said(node).claimed_flop_per_s
        # Who was shut out of the mesh, or is forgotten in it, says nothing any more.
        present = {entry.node for entry in view.nodes}
        verdicts = [one for one in self.ledger.verdicts(node, now) if one.verifier in present]
        return share_of_claim(claimed, verdicts, now, self.trust, members)

    def left_out(self, nodes: Collection[NodeId]) -> dict[NodeId, str]:
        """Those that get no work, each with the reason."""
        return {node: self.why_not(node) for node in nodes if self.believed(node) <= 0.0}

    def why_not(self, node: NodeId) -> str:
        """What keeps a node without belief from work, for people."""
        quarantine = self.ledger.quarantine(node, self.clock())
        return f"in quarantine: {quarantine.reason}" if quarantine else "its speed is not attested (--trust attested)"

    # What is shown

    def said(self, node: NodeId) -> PocFact:
        """What `node` told last of its proof."""
        if node == self.ledger.node:
            return PocFact((), self._phase, self._claimed_flop_per_s)
        return self._read.get(node, (b"", NOTHING))[1]

    def now(self) -> Proofs:
        """Everything that is known of others' proofs, and of this node's, for status."""
        by_node = {entry.node: self._proof(entry.node) for entry in self.mesh.view.nodes}
        return Proofs(self.trust.value, self.clock(), by_node, self.counts())

    def _proof(self, node: NodeId) -> Proof:
        said, quarantine = self.said(node), self.ledger.quarantine(node, self.clock())
        attested = tuple(self.ledger.about(node, self.clock()))
        reason = quarantine.reason if quarantine else ""
        return Proof(said.phase, said.claimed_flop_per_s, attested, self.believed(node), reason)

    def known(self) -> list[Attestation]:
        """All that verifiers who count say of anybody."""
        return [one for entry in self.mesh.view.nodes for one in self.ledger.about(entry.node, self.clock())]

    def quarantines(self) -> list[Quarantine]:
        """Who is shut out now."""
        return self.ledger.quarantines(self.clock())

    # Hearing

    async def run(self) -> None:
        """Hear, check and tell until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(), name="hear of proofs")
            group.create_task(self._check_due(), name="check transcripts")

    async def _follow(self) -> None:
        view = self.mesh.view
        while True:
            self._hear(view)
            await asyncio.sleep(PAUSE_S)
            view = await self.mesh.changed(view.version)

    def _hear(self, view: View) -> None:
        present = {entry.node for entry in view.nodes}
        self._read = {node: read for node, read in self._read.items() if node in present}
        for entry in view.nodes[1:]:
            value = entry.facts.get(POC_FACT, b"")
            if value != self._read.get(entry.node, (b"", NOTHING))[0]:
                self._read[entry.node] = value, self._take(entry, value)

    def _take(self, entry: NodeView, value: bytes) -> PocFact:
        self._shares.clear()
        try:
            fact = decode_fact(value, entry.node) if value and entry.role is not Role.CLIENT else NOTHING
            for signed in fact.attestations:
                self._take_one(entry.node, signed)
        except ProtocolError as error:
            logger.warning("ignoring what %s tells of proofs: %s", short(entry.node), error)
            return NOTHING
        return fact

    def _take_one(self, teller: NodeId, signed: Signed) -> None:
        if self.ledger.knows(teller, signed):
            return
        attestation = open_attestation(signed, self.mesh_id, teller)
        if attestation.verifier != teller:
            raise ProtocolError(f"node {short(teller)} told an attestation of another verifier as its own")
        self.ledger.hear(attestation, self.clock())

    # Checking

    async def _check_due(self) -> None:
        while True:
            self.ledger.forget_expired(self.clock())
            self._changed()
            while due := self.ledger.due(self.clock()):
                for attestation in due:
                    await self._check(attestation)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._until_heard()

    async def _until_heard(self) -> None:
        """Wait for a view after which something is due that was not."""
        view = self.mesh.view
        while not self.ledger.due(self.clock()):
            await asyncio.sleep(PAUSE_S)
            view = await self.mesh.changed(view.version)

    async def _check(self, attestation: Attestation) -> None:
        outcome = Outcome.UNAVAILABLE
        with suppress(TimeoutError):
            async with asyncio.timeout(CHECK_DEADLINE_S):
                outcome = await self.check(attestation)
        before = {one.node for one in self.quarantines()}
        self.ledger.settle(attestation, outcome, self.clock())
        for one in self.quarantines():
            if one.node not in before:
                logger.warning("%s is in quarantine: %s", short(one.node), one.reason)
        self._shares.clear()

    def counts(self) -> dict[str, int]:
        """How many attestations were heard, and how checks came out."""
        return dict(self.ledger.counters)


def _in_words(findings: Findings) -> str:
    rate = f"{findings.flop_per_s / 1e12:.3g} TFLOP/s"
    return f"{findings.found} nonces, {rate}, {findings.mismatches} of {findings.samples} off"
