"""What advertisements tell members, hide from others, and what hostile ones achieve: nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.advertisement import (
    DAY_S,
    MAX_HOSTS,
    MAX_NODES,
    MAX_OTHER_MESHES,
    Found,
    Heard,
    OtherMesh,
    Sightings,
    advertise,
    day_of,
    discovery_tag,
    read_node,
    read_tag,
    usable_addresses,
)
from transport.interface import Address, NodeId

MESH = b"\x01" * 16
OTHER_MESH = b"\x02" * 16
ME = NodeId(b"\x0a" * 32)
PEER = NodeId(b"\x0b" * 32)
PORT = 7842
TODAY = 20_000
NOW = TODAY * DAY_S + 5.0
HOST = "192.168.1.5"

Text = dict[bytes, bytes | None]


def text_of(mesh_id: bytes = MESH, node: NodeId = PEER, port: int = PORT, day: int = TODAY) -> Text:
    """A TXT record as zeroconf hands it over."""
    return {key.encode(): value for key, value in advertise(mesh_id, node, port, day).items()}


def heard(text: Text, name: str = "a", hosts: tuple[str, ...] = (HOST,), port: int = PORT) -> Heard:
    return Heard(name, text, hosts, port)


def sightings(mesh_id: bytes | None = MESH) -> Sightings:
    return Sightings(mesh_id, ME)


# The tag and the seal


def test_a_day_begins_at_midnight_utc() -> None:
    assert (day_of(0.0), day_of(86_399.9), day_of(86_400.0)) == (0, 0, 1)


def test_tags_differ_by_mesh_and_by_day_and_are_the_same_for_all_members() -> None:
    tags = {discovery_tag(mesh, day) for mesh in (MESH, OTHER_MESH) for day in (TODAY, TODAY + 1)}

    assert len(tags) == 4
    assert {len(tag) for tag in tags} == {16}
    assert read_tag(text_of(node=ME)) == read_tag(text_of(node=PEER)) == discovery_tag(MESH, TODAY)


def test_the_tag_is_pinned() -> None:
    assert discovery_tag(bytes(16), 0).hex() == "8d32261aeb930279ff4dff50afa18f4b"


def test_members_read_who_it_is_and_others_do_not() -> None:
    assert read_node(MESH, text_of(), PORT, TODAY) == PEER
    assert read_node(OTHER_MESH, text_of(), PORT, TODAY) is None


@pytest.mark.parametrize(("day", "is_read"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_yesterdays_and_tomorrows_words_count(day: int, is_read: bool) -> None:
    assert (read_node(MESH, text_of(day=TODAY + day), PORT, TODAY) == PEER) is is_read


def test_an_advertisement_holds_neither_the_mesh_nor_the_node() -> None:
    words = b"".join(advertise(MESH, PEER, PORT, TODAY).values())

    assert words.find(MESH) == words.find(PEER) == -1
    assert len(words) < 150


def test_a_seal_counts_for_its_port_only() -> None:
    assert read_node(MESH, text_of(), PORT + 1, TODAY) is None


def test_a_tag_copied_onto_another_seal_is_not_believed() -> None:
    forged = text_of() | {b"node": text_of(OTHER_MESH)[b"node"]}

    assert read_node(MESH, forged, PORT, TODAY) is None


def test_a_member_that_seals_what_is_no_node_id_names_nobody() -> None:
    assert read_node(MESH, text_of(node=NodeId(b"x" * 31)), PORT, TODAY) is None
    assert read_node(MESH, text_of(node=NodeId(b"x" * 33)), PORT, TODAY) is None


VALUES = st.none() | st.binary(max_size=600)


@given(st.dictionaries(st.sampled_from([b"v", b"mesh", b"node", b"x"]), VALUES), st.integers(0, 65_535))
def test_no_words_of_a_stranger_raise_or_name_a_node(text: Text, port: int) -> None:
    assert read_node(MESH, text, port, TODAY) is None
    assert read_node(MESH, text_of() | {b"node": text.get(b"node")}, port, TODAY) is None


@given(VALUES)
def test_a_tag_of_another_length_is_none(tag: bytes | None) -> None:
    read = read_tag({b"v": b"1", b"mesh": tag})

    assert read is None or len(read) == 16


def test_words_of_another_version_are_left_alone() -> None:
    assert read_tag(text_of() | {b"v": b"2"}) is None


# Addresses


def test_addresses_are_literals_that_can_be_dialled_each_once() -> None:
    hosts = (
        HOST,
        "fe80::1",
        "224.0.0.251",
        "0.0.0.0",
        "255.255.255.255",
        "name.local",
        HOST,
        "2001:db8::5",
        "127.0.0.1",
    )

    assert usable_addresses(hosts, PORT) == (Address(HOST, PORT), Address("2001:db8::5", PORT))


def test_loopback_counts_where_there_is_nothing_else() -> None:
    assert usable_addresses(("127.0.0.1",), PORT) == (Address("127.0.0.1", PORT),)


@pytest.mark.parametrize("port", [-1, 0, 65_536])
def test_no_port_no_address(port: int) -> None:
    assert usable_addresses((HOST,), port) == ()


def test_addresses_are_bounded() -> None:
    assert len(usable_addresses((f"10.0.0.{number}" for number in range(1, 100)), PORT)) == MAX_HOSTS


# Sightings


def test_a_node_is_news_once_and_again_when_it_moves() -> None:
    seen = sightings()

    assert seen.heard(heard(text_of()), NOW) == Found(PEER, (Address(HOST, PORT),))
    assert seen.heard(heard(text_of()), NOW) is None
    assert seen.heard(heard(text_of(day=TODAY + 1)), NOW) is None, "a new day is no news"
    assert seen.heard(heard(text_of(), hosts=("192.168.1.6",)), NOW) == Found(PEER, (Address("192.168.1.6", PORT),))


def test_a_node_that_left_and_came_back_is_news() -> None:
    seen = sightings()
    seen.heard(heard(text_of()), NOW)
    seen.gone("a")

    assert seen.heard(heard(text_of()), NOW) is not None


def test_we_do_not_find_ourselves() -> None:
    assert sightings().heard(heard(text_of(node=ME)), NOW) is None


def test_other_meshes_are_listed_each_once_until_they_are_gone() -> None:
    seen = sightings()
    for number in (1, 2):
        said = heard(text_of(OTHER_MESH), name=f"{number}", hosts=(f"10.0.0.{number}",))
        assert seen.heard(said, NOW) is None

    both = (Address("10.0.0.1", PORT), Address("10.0.0.2", PORT))
    assert seen.other_meshes == (OtherMesh(discovery_tag(OTHER_MESH, TODAY), both),)
    seen.gone("1")
    seen.gone("2")
    assert not seen.other_meshes


def test_a_node_without_a_mesh_sees_other_meshes_only() -> None:
    seen = sightings(None)

    assert seen.heard(heard(text_of()), NOW) is None
    assert [other.tag for other in seen.other_meshes] == [discovery_tag(MESH, TODAY)]


def test_what_says_no_tag_or_no_address_is_not_even_remembered() -> None:
    seen = sightings()
    for said in (heard({}), heard(text_of(), hosts=()), heard(text_of(), port=0)):
        assert seen.heard(said, NOW) is None
    assert seen.other_meshes == ()


def test_a_flood_of_other_meshes_is_bounded_and_our_own_nodes_are_still_found() -> None:
    seen = sightings()
    for number in range(3 * MAX_OTHER_MESHES):
        seen.heard(heard(text_of(number.to_bytes(16, "big")), name=str(number)), NOW)

    assert len(seen.other_meshes) == MAX_OTHER_MESHES
    assert seen.heard(heard(text_of()), NOW) is not None


def test_a_flood_of_repeated_words_leaves_room_for_a_true_node() -> None:
    seen = sightings()
    for number in range(3 * MAX_NODES):
        seen.heard(heard(text_of(), name=str(number), hosts=(f"10.0.{number // 256}.{number % 256}",)), NOW)

    true = NodeId(b"\x0c" * 32)
    assert seen.heard(heard(text_of(node=true), name="true"), NOW) == Found(true, (Address(HOST, PORT),))
    assert len(seen._found) == MAX_NODES
