"""What every part of a race on this node has to do with, and the race that is on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from meshd.attest.attestation import Attestation, Findings
from meshd.attest.race import Race
from meshd.attest.race_message import PROTOCOL, Declined, read, to_record
from meshd.attest.race_worker import Computing
from meshd.attest.transcripts import TranscriptStore
from transport.errors import MeshError, TimedOut
from transport.identity import NodeKey, RandomBytes, short
from transport.interface import NodeId, Stream, StreamHeader
from transport.question import Opener
from transport.wire import printable

Message = TypeVar("Message", bound=msgspec.Struct)

AGREE_S = 30.0
"""For each answer while a race is agreed on."""


class NotNow(MeshError):
    """The other end does not go on, and said why."""


@dataclass(frozen=True, slots=True)
class RaceContext:
    """groups: GPUs of each group that this node proves with, of which a processor has none.  vram_gb: as it says.

    attest: signs what was found, and tells it.  is_member: whether a node is known as one.
    """

    mesh_id: bytes
    key: NodeKey
    transport: Opener
    computing: Computing
    store: TranscriptStore
    unix_time: Callable[[], float]
    random_bytes: RandomBytes
    attest: Callable[[Findings], Attestation]
    groups: tuple[tuple[int, ...], ...] = ((),)
    vram_gb: float = 0.0
    is_member: Callable[[NodeId], bool] = lambda node: True

    @property
    def layout(self) -> tuple[tuple[int, ...], float]:
        """What this node enters a race with: devices in each group, of which a processor is one; and its VRAM."""
        return tuple(len(group) or 1 for group in self.groups), self.vram_gb

    @property
    def node(self) -> NodeId:
        return self.key.node


@dataclass(slots=True)
class RunningRace:
    """The race that is on. started: loop time.  attested: what this node found, by prover.  refused: why not.

    waiting: provers that are not done with.  proving: those on whose streams something is going on.  tries: keys that
    were begun with each.  met: the verifiers of the last one.  proved, unproved: of this node's own proof, by verifier.
    found, spent_s: of its search.
    """

    race: Race
    started: float
    waiting: set[NodeId]
    attested: dict[NodeId, Attestation] = field(default_factory=dict)
    refused: dict[NodeId, str] = field(default_factory=dict)
    tries: Counter[NodeId] = field(default_factory=Counter)
    met: dict[NodeId, frozenset[NodeId]] = field(default_factory=dict)
    proving: set[NodeId] = field(default_factory=set)
    proved: dict[NodeId, Attestation] = field(default_factory=dict)
    unproved: dict[NodeId, str] = field(default_factory=dict)
    found: int = 0
    spent_s: float = 0.0
    is_judged: asyncio.Event = field(default_factory=asyncio.Event)

    def settle(
        self, prover: NodeId, attestation: Attestation | None, reason: str = "", *, is_final: bool = True
    ) -> None:
        """A prover is done with, for better or worse; or may come again."""
        if is_final:
            self.waiting.discard(prover)
        if attestation is not None:
            self.attested[prover] = attestation
            self.refused.pop(prover, None)
        elif prover not in self.attested:
            self.refused[prover] = reason
        if not self.waiting:
            self.is_judged.set()


async def send(stream: Stream, message: msgspec.Struct) -> None:
    await stream.send(to_record(message))


async def expect(stream: Stream, kind: type[Message], limit_s: float) -> Message:
    """The peer's next message. Raises TimedOut, NotNow where it declines, ProtocolError and what streams raise."""
    peer = stream.peer.node
    try:
        async with asyncio.timeout(max(0.0, limit_s)):
            record = await stream.receive()
    except TimeoutError as error:
        raise TimedOut(f"node {short(peer)} sent no {kind.__name__} within {limit_s:.0f} s") from error
    message = read(record, kind, peer)
    if isinstance(message, Declined):
        raise NotNow(f"node {short(peer)} declines: {printable(message.reason, 200)}")
    return message


async def open_stream(transport: Opener, node: NodeId) -> Stream:
    """A stream to a connected peer. Raises Unreachable."""
    return await transport.open(node, StreamHeader(PROTOCOL, ""))
