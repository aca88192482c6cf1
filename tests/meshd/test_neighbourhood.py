"""Who takes part in mDNS, and how much of what it tells is followed."""

from __future__ import annotations

import pytest

from meshd.neighbourhood import (
    MAX_UNPROVED,
    Introductions,
    Seed,
    interfaces_of,
    reason_to_be_silent,
    tell_founder,
)
from tests.meshd.test_asking import Street, mesh, place
from transport.address import parse_address
from transport.advertisement import Found
from transport.interface import Address, NodeId


def found(number: int, host: str = "10.0.0.1") -> Found:
    return Found(NodeId(number.to_bytes(32, "big")), (Address(host, 7842),))


class Gossip:
    """Members that gossip knows, and what it was seeded with."""

    def __init__(self) -> None:
        self.members: set[NodeId] = set()
        self.seeded: list[Found] = []

    def introductions(self) -> Introductions:
        seed: Seed = lambda places: self.seeded.extend(Found(*place) for place in places)  # noqa: E731
        return Introductions(lambda: self.members, seed)


def test_what_is_found_is_followed_again_when_it_moved() -> None:
    gossip = Gossip()
    introductions = gossip.introductions()

    for each in (found(1), found(1, "10.0.0.2")):
        introductions.take(each)

    assert gossip.seeded == [found(1), found(1, "10.0.0.2")]


def test_invented_nodes_are_followed_up_to_a_limit_and_members_always() -> None:
    gossip = Gossip()
    introductions = gossip.introductions()
    invented = [found(number) for number in range(MAX_UNPROVED + 5)]
    for each in invented:
        introductions.take(each)
    assert gossip.seeded == invented[:MAX_UNPROVED]

    member = found(1000)
    gossip.members.add(member.node)
    introductions.take(member)

    assert gossip.seeded[-1] == member


def test_those_who_proved_to_be_members_make_room() -> None:
    gossip = Gossip()
    introductions = gossip.introductions()
    for number in range(MAX_UNPROVED):
        introductions.take(found(number))
    gossip.members.add(found(0).node)

    introductions.take(found(500))

    assert gossip.seeded[-1] == found(500)


@pytest.mark.parametrize(
    ("bind", "no_mdns", "says"),
    [
        ("[::]:7842", False, ""),
        ("10.0.0.1:7842", False, ""),
        ("[::]:7842", True, "--no-mdns"),
        ("127.0.0.1:0", False, "127.0.0.1 only"),
        ("[::1]:7842", False, "::1 only"),
        ("localhost:7842", False, "localhost only"),
    ],
)
def test_who_stays_out_says_why(bind: str, no_mdns: bool, says: str) -> None:
    reason = reason_to_be_silent(parse_address(bind), no_mdns)

    assert says in reason
    assert bool(reason) is bool(says)


@pytest.mark.parametrize(
    ("bind", "interfaces"),
    [("[::]:1", ()), ("0.0.0.0:1", ()), ("10.0.0.1:1", ("10.0.0.1",)), ("box.example:1", ())],
)
def test_a_node_bound_to_one_interface_announces_itself_there_only(bind: str, interfaces: tuple[str, ...]) -> None:
    assert interfaces_of(parse_address(bind)) == interfaces


@pytest.mark.parametrize(("wanted", "told"), [("", ["home", "attic"]), ("home", ["home"]), ("mine", [])])
async def test_a_founder_hears_of_meshes_that_it_may_have_meant(wanted: str, told: list[str]) -> None:
    street = Street({place(1): mesh("home", 1), place(2): mesh("attic", 2)})
    said: list[str] = []

    await tell_founder(street, wanted, [place(1), place(2), place(3)], said.append)

    assert [name for name in ("home", "attic") if any(name in line for line in said)] == told
    assert street.knocked == []
