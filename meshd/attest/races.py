"""A node's part in races: it calls them, takes part in those of others, gives out transcripts and judges others'.

One race at a time. What is agreed on lies in `race_calling`, the two ends of a proof in `race_proving` and
`race_verifying`; what verdicts lead to is for whoever set `attest`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from forms.poc.phases import Phase
from forms.poc.profile import PRESETS
from meshd.attest.attestation import Attestation, PhaseName, lower_flop_per_s
from meshd.attest.ledger import Outcome, outcome_of
from meshd.attest.order import ANSWER_S, GRACE_S
from meshd.attest.race import Race
from meshd.attest.race_calling import Claimants, NoRace, call_race, reports, start, take_part
from meshd.attest.race_context import AGREE_S, NotNow, RaceContext, RunningRace, send
from meshd.attest.race_message import Call, Declined, Fetch, Hello, Report, Terms, read_opening
from meshd.attest.race_proving import JUDGE_S, prove
from meshd.attest.race_verifying import verify_prover
from meshd.attest.race_worker import NotComputed
from meshd.attest.transcript import contradiction, decode_transcript
from meshd.attest.transcripts import fetch_from, give
from transport.errors import ProtocolError, TimedOut
from transport.identity import short
from transport.interface import NodeId, Stream

logger = logging.getLogger("meshd.attest")

Taking = Literal["off", "join", "call"]
SHARE = 0.2
"""Of the nonces that a race keeps: with few, a short race finds too little to judge (poc.md §4.2)."""
LEAST_APART = 10.0
"""Of others' races: between two of them so many times the time that the last one worked, so that none keeps us busy."""
LOOK_S = 60.0


class Voice(Protocol):
    """What tells the mesh of this node's proofs."""

    def enter(self, phase: PhaseName) -> None: ...

    def claim(self, flop_per_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class RaceOptions:
    """taking: off, join those that others call, or call them too, each `period_s`.  apart: as `LEAST_APART`."""

    taking: Taking = "join"
    period_s: float = 12 * 3600.0
    preset: str = "tiny"
    work_s: float = 10.0
    apart: float = LEAST_APART


@dataclass(slots=True)
class Called:
    """A race that this node called, for whoever watches. attestations: of all who reported."""

    terms: Terms
    state: Literal["agreeing", "racing", "over", "failed"] = "agreeing"
    reason: str = ""
    race: Race | None = None
    absent: dict[NodeId, str] = field(default_factory=dict)
    running: RunningRace | None = None
    attestations: list[Attestation] = field(default_factory=list)


@dataclass(slots=True)
class Races:
    """peers: members that are connected.  is_busy: whether this node works for somebody just now.

    attested: all attestations that this node knows of.  called: the race that this node called last.
    running: the one that is on; is_taken from the call to the end.
    """

    context: RaceContext
    peers: Callable[[], Sequence[NodeId]]
    voice: Voice
    options: RaceOptions = RaceOptions()
    is_busy: Callable[[], bool] = lambda: False
    attested: Callable[[], Iterable[Attestation]] = tuple
    called: Called | None = None
    running: RunningRace | None = None
    phase: Phase = Phase.IDLE
    is_taken: bool = False
    _calls: asyncio.Queue[Called] = field(default_factory=lambda: asyncio.Queue(1))
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _ended_at: float = 0.0
    _not_before: float = 0.0

    def works(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What runs while the node does."""
        return {"races": self._run(), "race period": self._keep_period()}

    # Calling

    def begin(self, preset: str = "", work_s: float = 0.0) -> Called:
        """Call a race: what there is to watch of it. Raises NoRace where one is on, ValueError for no preset."""
        if self.options.taking == "off":
            raise NoRace("this node takes no part in races: it was started with --poc off")
        if self.is_taken or self._calls.full():
            raise NoRace("a race is on already")
        name = preset or self.options.preset
        if name not in PRESETS:
            raise ValueError(f"a preset of {', '.join(PRESETS)} was expected, got {name!r}")
        salt, seconds = self.context.random_bytes(16), work_s or self.options.work_s
        epoch = int(self.context.unix_time())
        self.called = Called(Terms(self.context.node, epoch, salt, PRESETS[name].digest, SHARE, seconds))
        self.is_taken = True
        self._calls.put_nowait(self.called)
        return self.called

    async def _run(self) -> None:
        while True:
            called = await self._calls.get()
            try:
                with self._taken():
                    await self._hold(called)
                called.state = "over"
            except NoRace as error:
                called.state, called.reason = "failed", str(error)
                logger.info("no race: %s", error)

    async def _hold(self, called: Called) -> None:
        claimants = Claimants(absent=called.absent)
        try:
            # In no order: of a mesh that is too large for one race, others come another time.
            peers = list(self.peers())
            random.shuffle(peers)
            called.race = await call_race(self.context, called.terms, peers, claimants)
            await start(claimants, called.race)
            called.state, called.running = "racing", self._running(called.race)
            async with asyncio.TaskGroup() as group:
                theirs = group.create_task(reports(self.context, claimants, _longest_s(called.race)))
                await self._participate(called.running)
            called.attestations = [*called.running.attested.values(), *theirs.result()]
        finally:
            claimants.close()

    async def _keep_period(self) -> None:
        """Call a race whenever none was for a period, at a moment of its own, when it has nothing else to do."""
        if self.options.taking != "call":
            return
        while True:
            await asyncio.sleep(LOOK_S * random.uniform(0.5, 1.5))  # else all nodes would call at once
            is_due = self.context.unix_time() - self._ended_at >= self.options.period_s
            if is_due and self.peers() and not self.is_busy() and not self.is_taken:
                self.begin()

    # Serving

    async def serve(self, stream: Stream) -> None:
        """Serve one `poc/1` stream of a peer to its end. Raises MeshError."""
        try:
            async with asyncio.timeout(AGREE_S):
                opening = read_opening(await stream.receive(), stream.peer.node)
        except TimeoutError as error:
            raise TimedOut(f"node {short(stream.peer.node)} opened a stream and said nothing") from error
        match opening:
            case Call():
                await self._take_part(stream, opening)
            case Hello():
                await self._verify(stream, opening)
            case Fetch():
                await give(stream, opening, self.context.store)

    async def _take_part(self, stream: Stream, call: Call) -> None:
        try:
            if reason := self._why_not():
                raise NotNow(reason)
            with self._taken():
                race = await take_part(self.context, stream, call)
                running = self._running(race)
                await self._participate(running)
            self._not_before = asyncio.get_running_loop().time() + self.options.apart * race.terms.work_s
            own = tuple(one.signed for one in running.attested.values())
            await send(stream, Report(own[:64]))
        except NotNow as error:
            await send(stream, Declined(str(error)[:200]))
        await stream.finish()

    def _why_not(self) -> str:
        if self.options.taking == "off":
            return "it takes no part in races"
        if self.is_taken:
            return "it is in another race"
        if self.is_busy():
            return "it works for somebody"
        left_s = self._not_before - asyncio.get_running_loop().time()
        return f"it was in a race just now, ask again in {left_s:.0f} s" if left_s > 0 else ""

    async def _verify(self, stream: Stream, hello: Hello) -> None:
        running = await self._race(hello.race)
        if running is None:
            await send(stream, Declined("that race is not on here"))
            await stream.finish()
        else:
            await verify_prover(self.context, running, stream, hello)

    async def _race(self, digest: bytes) -> RunningRace | None:
        """The race of this digest, which this node may hear of a moment later than a prover."""
        try:
            async with asyncio.timeout(AGREE_S):
                while self.running is None or self.running.race.digest != digest:
                    if not self.is_taken:
                        return None
                    await self._changed.wait()
        except TimeoutError:
            return None
        return self.running

    # Taking part

    def _running(self, race: Race) -> RunningRace:
        """The race is on, from now by this node's clock."""
        waiting = set(race.provers(self.context.node))
        self.running = RunningRace(race, asyncio.get_running_loop().time(), waiting)
        if not waiting:
            self.running.is_judged.set()
        self._notify()
        return self.running

    async def _participate(self, running: RunningRace) -> None:
        """Prove, and see those out who prove to this node."""
        self._enter(Phase.GENERATE)
        try:
            async with asyncio.TaskGroup() as group:
                waiting = group.create_task(self._until_judged(running), name="provers")
                await prove(self.context, running)
                self._enter(Phase.VALIDATE)
                await waiting
            self._claim(running)
        finally:
            self._enter(Phase.IDLE)

    async def _until_judged(self, running: RunningRace) -> None:
        try:
            async with asyncio.timeout(2 * AGREE_S):
                await running.is_judged.wait()
        except TimeoutError:
            for prover in running.waiting - running.proving:
                running.settle(prover, None, "it did not come to prove anything")
        try:
            async with asyncio.timeout(_longest_s(running.race)):
                await running.is_judged.wait()
        except TimeoutError:
            for prover in list(running.waiting):
                running.settle(prover, None, "its proof did not come to an end")

    def _claim(self, running: RunningRace) -> None:
        terms, profile = running.race.terms, running.race.profile
        if running.found and running.spent_s:
            self.voice.claim(lower_flop_per_s(profile, running.found, terms.share, running.spent_s))

    @contextmanager
    def _taken(self) -> Iterator[None]:
        """One race at a time."""
        self.is_taken = True
        try:
            yield
        finally:
            self.is_taken, self.running = False, None
            self._ended_at = self.context.unix_time()
            self._notify()

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.voice.enter(phase.value)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # Judging what others say

    async def check(self, attestation: Attestation) -> Outcome:
        """Whether the transcript that an attestation names shows what it says. Never an error of the transcript's."""
        digest = attestation.findings.transcript
        transcript = await self.transcript(digest, (attestation.verifier, attestation.prover))
        if transcript is None:
            return Outcome.UNAVAILABLE
        try:
            read = decode_transcript(transcript, attestation.verifier)
        except ProtocolError:
            return Outcome.REFUTED
        if read.agreed.mesh_id != self.context.mesh_id or contradiction(attestation.findings, read):
            return Outcome.REFUTED
        try:
            judged = await self.context.computing.judge(transcript)
        except NotComputed as error:
            logger.warning("transcript %s was not checked: %s", digest.hex()[:16], error)
            return Outcome.UNAVAILABLE
        await asyncio.to_thread(self.context.store.keep, transcript, attestation.signed)
        return outcome_of(attestation.findings.verdict, judged)

    async def file_of(self, digest: bytes) -> Path | None:
        """The file of a transcript that is kept here, or that its verifier has; None where neither is so."""
        store = self.context.store
        kept = await asyncio.to_thread(store.find, digest)
        if kept is not None:
            return store.path(digest)
        for attestation in self.attested():
            if attestation.findings.transcript == digest:
                transcript = await self.transcript(digest, (attestation.verifier,))
                if transcript is not None:
                    return await asyncio.to_thread(store.keep, transcript, attestation.signed)
        return None

    async def transcript(self, digest: bytes, first: Sequence[NodeId] = ()) -> bytes | None:
        """A transcript that is here, or that some peer has: those in `first` are asked first."""
        kept = await asyncio.to_thread(self.context.store.find, digest)
        if kept is not None:
            return kept.transcript
        peers = self.peers()
        nodes = [*(node for node in first if node in peers), *(node for node in peers if node not in first)]
        return await fetch_from(self.context.transport, nodes, digest)


def _longest_s(race: Race) -> float:
    """After so long a race is over for everybody."""
    return race.terms.work_s + GRACE_S + ANSWER_S + 2 * AGREE_S + JUDGE_S
