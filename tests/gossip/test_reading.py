"""What is read once serves all who hear it, and vouches for nobody."""

from __future__ import annotations

import dataclasses

import pytest

import gossip.reading
from gossip.message import OutlineEntry
from gossip.reading import HeardFact, HeardRecord, Reading
from gossip.simulator.network import Conditions
from gossip.simulator.world import Settings, World
from gossip.trust import CertificateVerifier
from tests.gossip.identities import MESH_ID, UNIX_TIME, CheapVerifier, RealMesh, cheap_self
from tests.gossip.statements import fact, record
from transport.errors import ProtocolError
from transport.wire import encode

ALICE, BOB = cheap_self("alice"), cheap_self("bob")


def heard(reading: Reading, payload: bytes) -> HeardFact:
    said = reading.statement(payload, BOB.node)
    assert isinstance(said, HeardFact)
    return said


def test_a_copy_is_not_read_again() -> None:
    reading = Reading()
    for payload in (fact(ALICE), record(ALICE)):
        assert reading.statement(bytes(bytearray(payload)), BOB.node) is reading.statement(payload, ALICE.node)
    name = encode(OutlineEntry(ALICE.node[:8], 1, 7))
    assert reading.entry(bytes(bytearray(name)), BOB.node) is reading.entry(name, ALICE.node)


def test_a_fact_is_checked_once_for_its_owner_and_again_for_anyone_else() -> None:
    said = heard(Reading(), fact(ALICE))
    opened = said.open(ALICE.public, CheapVerifier(), MESH_ID, BOB.node)
    assert said.open(ALICE.public, CheapVerifier(), MESH_ID, BOB.node) is opened
    with pytest.raises(ProtocolError, match="forged"):
        said.open(BOB.public, CheapVerifier(), MESH_ID, BOB.node)


def test_a_record_is_checked_once_while_its_certificate_counts() -> None:
    mesh, revoked = RealMesh(), set[bytes]()
    alice = mesh.member("alice")
    verifier = CertificateVerifier(mesh.root.public, MESH_ID, lambda: UNIX_TIME, lambda: frozenset(revoked))
    said = Reading().statement(record(alice), BOB.node)
    assert isinstance(said, HeardRecord)
    assert said.open(verifier, MESH_ID, BOB.node) is said.open(verifier, MESH_ID, BOB.node)
    revoked.add(alice.serial)
    with pytest.raises(ProtocolError, match="certificate"):
        said.open(verifier, MESH_ID, BOB.node)


def test_a_fact_that_was_refused_is_refused_again() -> None:
    said = heard(Reading(), fact(dataclasses.replace(ALICE, signer=BOB.signer)))
    for _ in range(2):
        with pytest.raises(ProtocolError, match="forged"):
            said.open(ALICE.public, CheapVerifier(), MESH_ID, BOB.node)


def test_only_so_many_and_none_larger_than_a_packet_are_kept() -> None:
    reading = Reading()
    first, large = fact(ALICE), fact(ALICE, "large", bytes(5000))
    before = reading.statement(first, BOB.node)
    assert reading.statement(large, BOB.node) is not reading.statement(large, BOB.node)
    for version in range(2, gossip.reading.MAX_READ + 1):
        reading.statement(fact(ALICE, version=version), BOB.node)
    assert reading.statement(first, BOB.node) is before
    reading.statement(fact(ALICE, version=gossip.reading.MAX_READ + 1), BOB.node)
    assert reading.statement(first, BOB.node) is not before


def test_a_mesh_whose_nodes_read_for_themselves_has_the_same_history(monkeypatch: pytest.MonkeyPatch) -> None:
    def history() -> str:
        world = World(3, Settings(Conditions(loss=0.1)))
        hosts = [world.add(f"n{number}") for number in range(6)]
        for host in hosts:
            world.start(host, hosts[:1])
        world.run(8.0)
        return world.trace.digest

    together = history()
    monkeypatch.setattr(gossip.reading, "MAX_READ", 1)
    assert history() == together
