"""Encodings: round trips, bounds, and bytes that nobody wrote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.message import (
    MAX_RUMOURS_PER_PACKET,
    RUMOUR_BUDGET_BYTES,
    Accusation,
    Ack,
    Delta,
    DeltaEntry,
    Digest,
    DigestEntry,
    FactRumour,
    MemberRumour,
    Nack,
    Packet,
    Ping,
    PingRequest,
    decode_packet,
    decode_reliable,
    decode_rumour,
    encode_packet,
    rumour_cost,
)
from gossip.view import Status
from transport.errors import ProtocolError
from transport.interface import MAX_DATAGRAM_BYTES, NodeId
from transport.wire import encode

PEER = NodeId(b"p" * 32)
sequences = st.integers(0, 2**53 - 1)
nodes = st.binary(min_size=32, max_size=32)
words = st.one_of(
    st.none(),
    st.builds(Ping, sequences),
    st.builds(Ack, sequences),
    st.builds(Nack, sequences, st.booleans()),
    st.builds(PingRequest, sequences, nodes),
)
packets = st.builds(Packet, words, st.lists(st.binary(max_size=60), max_size=8).map(tuple))
numbers = st.integers(0, 2**53 - 1)
accusations = st.builds(Accusation, nodes, numbers, numbers, st.booleans(), nodes)
member_rumours = st.builds(
    MemberRumour, st.binary(max_size=640), st.binary(max_size=200), st.binary(min_size=64, max_size=64)
)
fact_rumours = st.builds(
    FactRumour, st.binary(max_size=200), st.binary(min_size=64, max_size=64), st.none() | st.binary(max_size=900)
)
statuses = st.sampled_from(Status)
digests = st.builds(
    Digest, st.booleans(), st.lists(st.builds(DigestEntry, nodes, numbers, numbers, statuses, numbers)).map(tuple)
)
delta_entries = st.builds(
    DeltaEntry,
    nodes,
    st.binary(max_size=100),
    statuses,
    st.binary(max_size=32),
    st.floats(0, 1e6),
    st.lists(st.binary(max_size=50), max_size=4).map(tuple),
)
deltas = st.builds(Delta, st.lists(delta_entries, max_size=5).map(tuple), st.booleans())


@given(packets)
def test_packets_survive_the_wire(packet: Packet) -> None:
    assert decode_packet(encode(packet), PEER) == packet


@given(st.one_of(packets, digests, deltas))
def test_reliable_messages_survive_the_wire(message: Packet | Digest | Delta) -> None:
    assert decode_reliable(encode(message), PEER) == message


@given(st.one_of(accusations, member_rumours, fact_rumours))
def test_rumours_survive_the_wire(rumour: MemberRumour | Accusation | FactRumour) -> None:
    assert decode_rumour(encode(rumour), PEER) == rumour


@given(st.one_of(st.binary(max_size=200), packets.map(encode), digests.map(encode)), st.data())
def test_no_bytes_escape_as_anything_but_a_protocol_error(data: bytes, draw: st.DataObject) -> None:
    if data:
        position = draw.draw(st.integers(0, len(data) - 1))
        data = data[:position] + bytes([draw.draw(st.integers(0, 255))]) + data[position + 1 :]
    for decode in (decode_packet, decode_reliable, decode_rumour):
        try:
            decode(data, PEER)
        except ProtocolError as error:
            assert "node " in str(error)


@pytest.mark.parametrize("word", [None, PingRequest(2**53 - 1, b"t" * 32), Nack(2**53 - 1, True)])
def test_a_packet_filled_to_its_budget_fits_a_datagram(word: PingRequest | Nack | None) -> None:
    one_large = [b"r" * (RUMOUR_BUDGET_BYTES - rumour_cost(b""))]
    many_small = [b"r" * (RUMOUR_BUDGET_BYTES // MAX_RUMOURS_PER_PACKET - rumour_cost(b""))] * MAX_RUMOURS_PER_PACKET
    for rumours in (one_large, many_small):
        assert sum(map(rumour_cost, rumours)) <= RUMOUR_BUDGET_BYTES
        assert len(encode_packet(word, rumours)) <= MAX_DATAGRAM_BYTES


def test_a_datagram_beyond_the_limit_is_refused_unread() -> None:
    with pytest.raises(ProtocolError, match="at most 1100 bytes"):
        decode_packet(encode_packet(None, [b"r" * 1100]), PEER)
