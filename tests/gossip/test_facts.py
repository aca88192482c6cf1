"""Facts: who may say them, how completeness is known, and their bounds."""

from __future__ import annotations

from itertools import permutations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.facts import (
    NOTHING_HELD,
    Device,
    Fact,
    FactStore,
    GpuFact,
    Held,
    SystemFact,
    fingerprint,
    open_fact,
    read_gpu,
    read_header,
    read_system,
    seal_fact,
)
from gossip.member import LocalNode
from gossip.message import MAX_FACT_BYTES, MAX_FACTS_PER_NODE, FactRumour, decode_rumour, fits_datagram
from gossip.view import NodeView, Status
from tests.gossip.identities import MESH_ID, RealMesh, cheap_self
from transport.errors import ProtocolError
from transport.interface import NodeId, Role
from transport.wire import decode, encode

PEER = NodeId(b"p" * 32)


def say(store: FactStore, me: LocalNode, key: str, value: bytes) -> Fact:
    store.check(me.node, key, value)
    fact = seal_fact(store.next_header(me.node, key, value), value, me.signer, MESH_ID)
    assert store.put(fact)
    return fact


def owner_store(me: LocalNode) -> FactStore:
    store = FactStore()
    store.begin(me.node, me.boot)
    return store


def rumour_of(fact: Fact, *, told: bool = False) -> FactRumour:
    rumour = decode_rumour(fact.told if told else fact.encoded, PEER)
    assert isinstance(rumour, FactRumour)
    return rumour


def opened(mesh: RealMesh, owner: LocalNode, rumour: FactRumour) -> Fact:
    return open_fact(rumour, read_header(rumour, PEER), owner.public, mesh.verifier(), MESH_ID, PEER)


def test_a_fact_survives_sealing_and_opening() -> None:
    mesh = RealMesh()
    alice = mesh.member("alice")
    fact = say(owner_store(alice), alice, "load", b"3")
    assert opened(mesh, alice, rumour_of(fact)) == fact
    assert fits_datagram(fact.told)


def test_a_large_fact_is_told_by_its_header_and_kept_whole() -> None:
    mesh = RealMesh()
    alice = mesh.member("alice")
    fact = say(owner_store(alice), alice, "k" * 64, b"x" * MAX_FACT_BYTES)
    assert rumour_of(fact, told=True).value is None
    assert fits_datagram(fact.told)
    assert opened(mesh, alice, rumour_of(fact, told=True)).version == 1
    assert opened(mesh, alice, rumour_of(fact)).value == b"x" * MAX_FACT_BYTES


@pytest.mark.parametrize("changes", [{"version": 9}, {"key": "other"}, {"boot": 2}])
def test_an_edited_header_is_refused(changes: dict[str, object]) -> None:
    mesh = RealMesh()
    alice = mesh.member("alice")
    rumour = rumour_of(say(owner_store(alice), alice, "load", b"3"))
    header = msgspec.structs.replace(read_header(rumour, PEER), **changes)
    with pytest.raises(ProtocolError, match="forged"):
        opened(mesh, alice, msgspec.structs.replace(rumour, header=encode(header)))


def test_a_replaced_value_is_refused() -> None:
    mesh = RealMesh()
    alice = mesh.member("alice")
    rumour = rumour_of(say(owner_store(alice), alice, "load", b"3"))
    with pytest.raises(ProtocolError, match="did not sign"):
        opened(mesh, alice, msgspec.structs.replace(rumour, value=b"4"))


def test_only_the_owner_speaks_for_itself() -> None:
    mesh = RealMesh()
    alice, mallory = mesh.member("alice"), mesh.member("mallory")
    store = owner_store(alice)
    forged = seal_fact(store.next_header(alice.node, "load", b"9"), b"9", mallory.signer, MESH_ID)
    with pytest.raises(ProtocolError, match="forged"):
        opened(mesh, alice, rumour_of(forged))


def test_an_update_raises_the_version_and_replaces_the_value() -> None:
    alice = cheap_self("alice")
    store = owner_store(alice)
    assert [say(store, alice, "load", value).version for value in (b"1", b"2")] == [1, 2]
    assert dict(store.shown(alice.node)) == {"load": b"2"}
    assert store.complete(alice.node) == 2


def test_an_empty_value_withdraws_a_fact_from_readers_and_still_travels() -> None:
    alice = cheap_self("alice")
    store = owner_store(alice)
    say(store, alice, "claims", b"1")
    say(store, alice, "claims", b"")
    assert dict(store.shown(alice.node)) == {}
    assert [fact.version for fact in store.after(alice.node, 1)] == [2]


def test_old_facts_and_facts_of_another_boot_are_no_news() -> None:
    alice = cheap_self("alice")
    owner, reader = owner_store(alice), owner_store(alice)
    old, new = say(owner, alice, "load", b"1"), say(owner, alice, "load", b"2")
    reader.put(new)
    assert not reader.is_news(read_header(rumour_of(old), PEER))
    assert not reader.is_news(read_header(rumour_of(new), PEER))
    assert reader.begin(alice.node, alice.boot + 1)
    assert not reader.is_news(read_header(rumour_of(new), PEER))
    assert dict(reader.shown(alice.node)) == {}


@given(st.permutations([("a", 1), ("b", 2), ("a", 3), ("c", 4), ("b", 5)]))
def test_a_reader_knows_it_is_complete_whatever_the_order(order: list[tuple[str, int]]) -> None:
    alice = cheap_self("alice")
    owner, reader = owner_store(alice), owner_store(alice)
    facts = {
        (key, version): say(owner, alice, key, b"%d" % version)
        for key, version in [("a", 1), ("b", 2), ("a", 3), ("c", 4), ("b", 5)]
    }
    for step in order:
        if reader.is_news(read_header(rumour_of(facts[step]), PEER)):
            reader.put(facts[step])
    assert reader.complete(alice.node) == 5
    assert dict(reader.shown(alice.node)) == dict(owner.shown(alice.node))


def test_a_superseded_update_need_never_arrive() -> None:
    alice = cheap_self("alice")
    owner, reader = owner_store(alice), owner_store(alice)
    say(owner, alice, "load", b"1")
    reader.put(say(owner, alice, "load", b"2"))
    assert reader.complete(alice.node) == 2


def test_a_missing_key_shows_and_is_not_passed_on_as_complete() -> None:
    alice = cheap_self("alice")
    owner, reader = owner_store(alice), owner_store(alice)
    first = say(owner, alice, "a", b"1")
    hidden = say(owner, alice, "b", b"2")
    last = say(owner, alice, "c", b"3")
    reader.put(first)
    reader.put(last)
    assert reader.complete(alice.node) == 1
    assert [fact.key for fact in reader.after(alice.node, 0)] == ["a"]
    reader.put(hidden)
    assert reader.complete(alice.node) == 3


def test_facts_come_after_a_version_in_order() -> None:
    alice = cheap_self("alice")
    store = owner_store(alice)
    for key in "bacb":
        say(store, alice, key, key.encode())
    assert [(fact.key, fact.version) for fact in store.after(alice.node, 1)] == [("a", 2), ("c", 3), ("b", 4)]


def test_fingerprints_do_not_depend_on_the_order_of_a_table() -> None:
    prints = {fingerprint(dict(order)) for order in permutations([("a", 1), ("b", 22), ("c", 3)])}
    assert len(prints) == 1
    assert fingerprint({"a": 1, "b": 2}) != fingerprint({"a": 2, "b": 1})


@pytest.mark.parametrize(
    ("key", "value"), [("", b""), ("k" * 65, b""), ("large", b"x" * (MAX_FACT_BYTES + 1)), ("one more", b"")]
)
def test_own_facts_are_held_to_their_bounds(key: str, value: bytes) -> None:
    alice = cheap_self("alice")
    store = owner_store(alice)
    for index in range(MAX_FACTS_PER_NODE):
        say(store, alice, f"key{index}", b"")
    with pytest.raises(ValueError, match=r"fact"):
        store.check(alice.node, key, value)


def test_anothers_facts_are_held_to_the_same_count() -> None:
    alice = cheap_self("alice")
    reader = owner_store(alice)
    for index in range(MAX_FACTS_PER_NODE + 1):
        # An owner that does not count: every fact is the first of a fresh table.
        owner = owner_store(alice)
        header = owner.next_header(alice.node, f"key{index}", b"x")
        was_kept = reader.put(seal_fact(header, b"x", alice.signer, MESH_ID))
        assert was_kept == (index < MAX_FACTS_PER_NODE)


def node_view(**facts: bytes) -> NodeView:
    return NodeView(PEER, "", Role.MEMBER, Status.ALIVE, 1, 0, (), facts, None, True, 0.0)


def test_the_facts_that_every_node_publishes_are_read_from_a_view() -> None:
    system = SystemFact("0.1.0", "linux", 0.5, 10, 2, 8 << 30, 4 << 30)
    gpu = GpuFact((Device("H200", "cuda", 141 << 30, 100 << 30),))
    node = node_view(sys=encode(system), gpu=encode(gpu))
    assert read_system(node) == system
    assert read_gpu(node) == gpu
    assert read_system(node_view(sys=b"\xc1")) is None
    assert read_gpu(node_view()) is None


class DeviceOfBefore(msgspec.Struct, frozen=True):
    """What a device was before nodes said what they hold of it."""

    name: str
    kind: str
    total_bytes: int
    free_bytes: int


class FactOfBefore(msgspec.Struct, frozen=True):
    devices: tuple[DeviceOfBefore, ...]


def test_what_is_held_of_a_device_costs_little_and_is_passed_over_by_those_who_do_not_know_it() -> None:
    device = Device("H200", "cuda", 141 << 30, 100 << 30)
    plain, told = (
        encode(GpuFact((one,)))
        for one in (device, msgspec.structs.replace(device, held=Held(80 << 30, 20 << 30, 1, 1)))
    )

    assert len(told) - len(plain) <= 40
    before = decode(told, FactOfBefore, peer=PEER, max_bytes=1000).devices[0]
    assert (before.name, before.free_bytes) == ("H200", 100 << 30)
    assert plain == encode(FactOfBefore((DeviceOfBefore("H200", "cuda", 141 << 30, 100 << 30),)))
    read = read_gpu(node_view(gpu=plain))
    assert read is not None and read.devices[0].uses == NOTHING_HELD
