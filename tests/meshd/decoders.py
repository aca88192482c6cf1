"""Every way into `meshd` for bytes of other nodes, for the fuzzers. Its HTTP doors are their library's."""

from __future__ import annotations

from contextlib import suppress

from gossip.message import MAX_FACT_BYTES
from meshd.attest import race_message
from meshd.attest.attestation import decode_fact, open_attestation
from meshd.attest.transcript import decode_transcript
from meshd.clocks import MAX_MESSAGE_BYTES, ClockReading
from meshd.mesh_facts import read_delegates, read_roots
from tests.fuzzing import Decoder, seeds_of
from transport import wire
from transport.errors import ProtocolError
from transport.interface import NodeId, Record, RecordKind

PEER = NodeId(b"\x05" * 32)

MESH_ID = b"m" * 16


def read_attestations(data: bytes) -> None:
    """As `meshd.attest.ledger` does it."""
    for signed in decode_fact(data, PEER).attestations:
        open_attestation(signed, MESH_ID, PEER)


def read_race(data: bytes) -> None:
    """Everything that `meshd.attest` reads from a stream, whatever is due next."""
    record = Record(RecordKind.MESSAGE, data)
    for kind in RACE_MESSAGES:
        with suppress(ProtocolError):
            race_message.read(record, kind, PEER)
    for read in (race_message.read_opening, race_message.read_round, race_message.read_found):
        with suppress(ProtocolError):
            read(record, PEER)


RACE_MESSAGES = (
    *(race_message.Commit, race_message.Roster, race_message.Reveal, race_message.Report, race_message.Promise),
    *(race_message.Meet, race_message.Shown, race_message.Claim, race_message.Sample, race_message.Openings),
    race_message.Verdict,
)
RACE_SEEDS = seeds_of("meshd", *(f"race_{kind.__name__.lower()}" for kind in RACE_MESSAGES), "race_call", "race_start")

DECODERS = (
    Decoder("poc-stream", read_race, RACE_SEEDS, race_message.MAX_MESSAGE_BYTES, peak_bytes=32 << 20),
    Decoder(
        "poc-transcript",
        lambda data: decode_transcript(data, PEER),
        seeds_of("meshd", "race_transcript"),
        race_message.MAX_TRANSCRIPT_BYTES,
    ),
    Decoder(
        "clock/1",
        lambda data: wire.decode(data, ClockReading, peer=PEER, max_bytes=MAX_MESSAGE_BYTES),
        seeds_of("meshd", "clock"),
        MAX_MESSAGE_BYTES,
    ),
    Decoder("fact-poc", read_attestations, seeds_of("meshd", "fact_poc"), MAX_FACT_BYTES),
    Decoder("fact-roots", lambda data: read_roots(data, PEER), seeds_of("meshd", "fact_roots"), MAX_FACT_BYTES),
    Decoder(
        "fact-delegates",
        lambda data: read_delegates(data, PEER),
        seeds_of("meshd", "fact_delegates"),
        MAX_FACT_BYTES,
        peak_bytes=12 << 20,
    ),
)
