"""This node's part in races of proof of compute, put together, and what the control door can be asked about them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from forms.poc.groups import CPU, group_devices
from forms.poc.groups import Device as PocDevice
from forms.poc.profile import PRESETS
from gossip.facts import Device
from meshd.attest.attestation import Attestation, Signed
from meshd.attest.race_calling import NoRace
from meshd.attest.race_context import RaceContext
from meshd.attest.race_worker import RaceWorker
from meshd.attest.races import Called, RaceOptions, Races
from meshd.attest.transcript import read_digest
from meshd.attest.transcripts import TranscriptStore
from meshd.attestations import Attestations
from meshd.config import Config
from meshd.control import Command, CommandFailed
from transport.identity import NodeKey, node_text
from transport.interface import Link, LinkState, NodeId, Role, Transport

MAX_WORK_S = 600.0
GIB = float(1 << 30)


@dataclass(frozen=True, slots=True)
class RaceSurroundings:
    """What of the node races have to do with. folder: for transcripts.  devices: whose memory it says that it has.

    is_busy: whether this node works for somebody just now.  is_member: whether a node is known as one.
    """

    key: NodeKey
    mesh_id: bytes
    transport: Transport
    folder: Path
    attestations: Attestations
    unix_time: Callable[[], float]
    devices: tuple[Device, ...]
    is_busy: Callable[[], bool]
    is_member: Callable[[NodeId], bool]


@dataclass(frozen=True, slots=True)
class Racing:
    """A node's races and the process that computes for them. recall: takes what was attested before this start."""

    races: Races
    worker: RaceWorker
    recall: Callable[[Iterable[Signed]], None]

    def works(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What runs while the node does."""
        return {"proofs": self.worker.run(), "earlier proofs": self._recall()} | self.races.works()

    async def _recall(self) -> None:
        self.recall(await asyncio.to_thread(self.races.context.store.signed))

    def table(self) -> dict[str, Command]:
        """Every command by its name."""
        return {"poc_race": self._race, "poc_progress": self._progress, "poc_transcript": self._transcript}

    async def _race(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a race. preset: "" for the configured one.  work_s: 0 likewise."""
        preset, work_s = arguments.get("preset", ""), arguments.get("work_s", 0)
        if not isinstance(preset, str) or not isinstance(work_s, int | float) or not 0 <= work_s <= MAX_WORK_S:
            raise CommandFailed(f"expected a preset of {', '.join(PRESETS)}, and up to {MAX_WORK_S:.0f} seconds")
        try:
            return called_json(self.races.begin(preset, float(work_s)))
        except (NoRace, ValueError) as error:
            raise CommandFailed(str(error)) from error

    async def _progress(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """How the race that was called last goes on."""
        if self.races.called is None:
            raise CommandFailed("this node has called no race since it started")
        return called_json(self.races.called)

    async def _transcript(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Where a transcript lies here, fetched from a peer if need be. digest: 64 hex digits."""
        try:
            digest = read_digest(str(arguments.get("digest", "")))
        except ValueError as error:
            raise CommandFailed(str(error)) from error
        path = await self.races.file_of(digest)
        if path is None:
            raise CommandFailed(f"no node that is connected has transcript {digest.hex()[:16]}…")
        return {"path": str(path)}


async def no_races(arguments: dict[str, Any]) -> dict[str, Any]:
    """What a lite client's owner is told."""
    raise CommandFailed("a lite client takes part in no races and keeps no transcripts: ask a member for it")


CLIENT_COMMANDS: dict[str, Command] = dict.fromkeys(("poc_race", "poc_progress", "poc_transcript"), no_races)


def make_racing(config: Config, around: RaceSurroundings) -> Racing:
    """The races of a node that is no client."""
    worker = RaceWorker()
    context = RaceContext(
        mesh_id=around.mesh_id,
        key=around.key,
        transport=around.transport,
        computing=worker,
        store=TranscriptStore(around.folder),
        unix_time=around.unix_time,
        random_bytes=os.urandom,
        attest=around.attestations.attest,
        groups=groups_of(around.devices, find_spec("cupy") is not None),
        vram_gb=sum(device.total_bytes for device in around.devices if device.kind == "cuda") / GIB,
        is_member=around.is_member,
    )
    options = RaceOptions(config.poc, config.poc_period * 3600, config.poc_preset, config.poc_seconds)
    races = Races(
        context,
        lambda: members(around.transport.links()),
        around.attestations,
        options,
        around.is_busy,
        around.attestations.known,
    )
    around.attestations.check = races.check
    return Racing(races, worker, around.attestations.recall)


def groups_of(devices: Iterable[Device], has_cupy: bool) -> tuple[tuple[int, ...], ...]:
    """The GPUs of each group that proves together; none of the processor's, where it is all that can compute here."""
    gpus = [device for device in devices if device.kind == "cuda"] if has_cupy else []
    groups = group_devices(PocDevice(number, one.total_bytes / GIB) for number, one in enumerate(gpus))
    return tuple(() if group == (CPU,) else tuple(device.number for device in group) for group in groups)


def members(links: Iterable[Link]) -> list[NodeId]:
    """Who may take part in a race: the members that are connected."""
    return [link.node for link in links if link.state is LinkState.CONNECTED and link.role is not Role.CLIENT]


def called_json(called: Called) -> dict[str, Any]:
    """A race as `meshd poc race --json` prints it."""
    terms, race, running = called.terms, called.race, called.running
    attestations = called.attestations or (list(running.attested.values()) if running else [])
    return {
        "state": called.state,
        "reason": called.reason,
        "epoch": terms.epoch,
        "work_s": terms.work_s,
        "claimants": [node_text(node) for node in race.claimants] if race else [],
        "absent": {node_text(node): reason for node, reason in called.absent.items()},
        "found": running.found if running else 0,
        "spent_s": running.spent_s if running else 0.0,
        "attestations": [_attestation_json(one) for one in attestations],
        "refused": {node_text(node): reason for node, reason in running.refused.items()} if running else {},
        "unproved": {node_text(node): reason for node, reason in running.unproved.items()} if running else {},
    }


def _attestation_json(one: Attestation) -> dict[str, Any]:
    findings = one.findings
    return {
        "prover": node_text(one.prover),
        "verifier": node_text(one.verifier),
        "verdict": findings.verdict,
        "flop_per_s": findings.flop_per_s,
        "found": findings.found,
        "taken_s": findings.taken_s,
        "samples": findings.samples,
        "mismatches": findings.mismatches,
        "transcript": findings.transcript.hex(),
    }
