"""Every way into `meshd` for bytes of other nodes, for the fuzzers. Its HTTP doors are their library's."""

from __future__ import annotations

from gossip.message import MAX_FACT_BYTES
from meshd.attest.attestation import decode_fact, open_attestation
from meshd.clocks import MAX_MESSAGE_BYTES, ClockReading
from meshd.mesh_facts import read_delegates, read_roots
from tests.fuzzing import Decoder, seeds_of
from transport import wire
from transport.interface import NodeId

PEER = NodeId(b"\x05" * 32)

MESH_ID = b"m" * 16


def read_attestations(data: bytes) -> None:
    """As `meshd.attest.ledger` does it."""
    for signed in decode_fact(data, PEER).attestations:
        open_attestation(signed, MESH_ID, PEER)


DECODERS = (
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
