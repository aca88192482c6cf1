"""What an agent and the process that computes its proofs say to each other: each message after its length. Pure."""

from __future__ import annotations

import struct

import msgspec

from meshd.attest.race import Agreed
from meshd.attest.race_message import MAX_CLAIMANTS, MAX_TRANSCRIPT_BYTES
from meshd.attest.transcript import Judged
from transport import wire
from transport.wire import Bytes32

LENGTH = struct.Struct("!I")
MAX_JOB_BYTES = MAX_TRANSCRIPT_BYTES + 4096


class Generate(msgspec.Struct, frozen=True, tag="generate"):
    """Search for `work_s`, and for a while longer where too little was found. key: of the prover's inputs.

    groups: the GPUs of each; the processor has none.
    """

    agreed: Agreed
    prover: Bytes32
    key: int
    work_s: float
    groups: tuple[tuple[int, ...], ...] = ((),)


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How far that is."""

    found: int
    spent_s: float


class Generated(msgspec.Struct, frozen=True, tag="generated"):
    """What was found, as `race_message.Claim` has it."""

    nonces: bytes
    distances: bytes
    root: Bytes32


class Open(msgspec.Struct, frozen=True, tag="open"):
    """Open what `secret` picks of the work that has this root."""

    root: Bytes32
    secret: Bytes32


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """samples: an encoded `judging.Samples`."""

    samples: bytes


class Judge(msgspec.Struct, frozen=True, tag="judge"):
    """Say what this transcript shows."""

    transcript: bytes


class Judgement(msgspec.Struct, frozen=True, tag="judgement"):
    judged: Judged


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """It could not be done: such as work that is not there any more."""

    reason: str


Job = Generate | Open | Judge
Reply = Progress | Generated | Opened | Judgement | Failed


def frame(message: Job | Reply) -> bytes:
    """A message as it goes into the pipe."""
    payload = wire.encode(message)
    return LENGTH.pack(len(payload)) + payload


def read_job(payload: bytes) -> Job:
    job: Job = wire.decode(
        payload, Job, peer=None, max_bytes=MAX_JOB_BYTES, max_items=MAX_CLAIMANTS, source="the agent"
    )
    return job


def read_reply(payload: bytes) -> Reply:
    """Raises ProtocolError."""
    reply: Reply = wire.decode(payload, Reply, peer=None, max_bytes=MAX_JOB_BYTES, source="the proofs' process")
    return reply
