"""What a host and the process of one of its groups say to each other: a line of JSON each. Pure.

host: a Job, then an empty line to begin.  group: Ready, then Progress while it searches, then Found.
"""

from __future__ import annotations

import base64
from typing import Annotated

import msgspec
import numpy

from forms.poc.computer import Results
from forms.poc.generation import Assignment
from forms.poc.nonces import Residue
from forms.poc.profile import ARTEFACT_COORDINATES, PRESETS


class Job(msgspec.Struct, frozen=True):
    """Search for `seconds`, and on until `least` are found. devices: the group's GPUs, none for the processor.

    node, nodes: the host's place among those that search together.
    """

    preset: str
    seed: bytes
    key: int
    share: float
    groups: int
    group: int
    devices: tuple[int, ...]
    seconds: Annotated[float, msgspec.Meta(gt=0)]
    least: int
    most: int
    node: int = 0
    nodes: int = 1

    @property
    def assignment(self) -> Assignment:
        return Assignment(
            PRESETS[self.preset], self.seed, self.key, self.share, Residue(self.node, self.nodes, self.groups)
        )


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Its network is made. batch: nonces that its free memory takes at once."""

    init_s: float
    batch: int


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How long it has searched, and how many it found."""

    spent_s: float
    found: int


class Found(msgspec.Struct, frozen=True, tag="found"):
    """What it kept of how many it tested. processor_s: of all its threads.  Arrays as bytes, in base64."""

    tested: int
    spent_s: float
    processor_s: float
    nonces: str
    distances: str
    artefacts: str

    @classmethod
    def of(cls, results: Results, tested: int, spent_s: float, processor_s: float) -> Found:
        """Of one group's results."""
        arrays = (results.nonces.astype("<u8"), results.distances.astype("<f4"), results.artefacts.astype("<f2"))
        return cls(tested, spent_s, processor_s, *(base64.b64encode(array.tobytes()).decode() for array in arrays))

    @property
    def results(self) -> Results:
        nonces, distances, artefacts = (
            numpy.frombuffer(base64.b64decode(text), kind)
            for text, kind in ((self.nonces, "<u8"), (self.distances, "<f4"), (self.artefacts, "<f2"))
        )
        return Results(nonces, distances, artefacts.reshape(-1, ARTEFACT_COORDINATES))


Said = Ready | Progress | Found

_said: msgspec.json.Decoder[Said] = msgspec.json.Decoder(Said)
_job: msgspec.json.Decoder[Job] = msgspec.json.Decoder(Job)


def line(message: Job | Said) -> bytes:
    """A message as it goes into the pipe."""
    return msgspec.json.encode(message) + b"\n"


def read_said(text: bytes) -> Said:
    """Raises msgspec.MsgspecError."""
    return _said.decode(text)


def read_job(text: bytes) -> Job:
    """Raises msgspec.MsgspecError."""
    return _job.decode(text)
