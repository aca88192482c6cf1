"""Bytes that were written down once are read as they were meant, written alike, and still hold what they prove."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossip.addressbook import AddressBook
from gossip.facts import open_fact, read_header
from gossip.member import open_member, read_body
from gossip.message import FactRumour, MemberRumour, decode_packet, decode_reliable, decode_rumour
from gossip.trust import CertificateVerifier
from tests.golden import Vector, check, load, vectors
from tests.gossip import examples
from tests.transport.examples import MEMBER, MEMBER_CERTIFICATE, MESH_ID, NOW, ROOT, SECOND
from transport.interface import Address

VECTORS = vectors("gossip")
VERIFIER = CertificateVerifier(ROOT.public, MESH_ID, lambda: NOW)


def name_of(vector: Vector) -> str:
    return vector.path.stem


def committed(name: str) -> bytes:
    return load(Path(__file__).parent / "vectors" / f"{name}.json").data


@pytest.mark.parametrize("vector", VECTORS, ids=name_of)
def test_a_vector_is_read_as_it_was_meant_and_written_alike(vector: Vector) -> None:
    check(vector)


def test_every_example_has_its_vector() -> None:
    assert {name_of(vector) for vector in VECTORS} >= examples.examples().keys(), "run python -m tools.vectors"


def test_the_member_record_holds() -> None:
    encoded = committed("member_rumour")
    rumour = decode_rumour(encoded, SECOND.node)
    assert isinstance(rumour, MemberRumour)
    record = open_member(rumour, read_body(rumour, SECOND.node), VERIFIER, MESH_ID, SECOND.node)
    assert (record.node, record.boot, record.name) == (MEMBER.node, 2, "member")
    assert rumour.certificate == MEMBER_CERTIFICATE


@pytest.mark.parametrize("name", ["fact_rumour", "fact_rumour_large"])
def test_the_facts_hold(name: str) -> None:
    rumour = decode_rumour(committed(name), SECOND.node)
    assert isinstance(rumour, FactRumour)
    header = read_header(rumour, SECOND.node)
    assert open_fact(rumour, header, MEMBER.public, VERIFIER, MESH_ID, SECOND.node).key == header.key


def test_packets_and_pages_pass_their_limits() -> None:
    for vector in VECTORS:
        if vector.codec == "gossip.message.Packet":
            decode_packet(vector.data, SECOND.node)
        if vector.codec in ("gossip.message.Packet", "gossip.message.Digest", "gossip.message.Delta"):
            decode_reliable(vector.data, SECOND.node)


def test_the_address_book_holds(tmp_path: Path) -> None:
    path = tmp_path / "addresses"
    path.write_bytes(committed("address_book"))
    places = AddressBook(path, lambda: NOW).load()
    assert places == {MEMBER.node: (Address("192.0.2.9", 7842), Address("2001:db8::9", 7842))}
