"""Coming in by name: whom a node asks, how long, and what its user reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from meshd import asking
from meshd.asking import Asking, look_at
from meshd.belonging import CannotBelong
from transport.errors import RefusalCode, Refused, Unreachable
from transport.identity import short
from transport.interface import Address, NodeId
from transport.pairing import SeenMesh, StillWaiting

ME = NodeId(b"m" * 32)
Answer = str | StillWaiting | Exception


def place(number: int) -> Address:
    return Address(f"10.0.0.{number}", 7842)


def mesh(name: str, node: int, root: bytes = b"r") -> SeenMesh:
    return SeenMesh(root * 16, name, root * 32, NodeId(bytes([node]) * 32), f"box-{node}")


def no(code: RefusalCode) -> Refused:
    return Refused(code, f"because {code.value}")


class Street:
    """Doors by address, and what each answers in turn; the last answer again and again."""

    def __init__(self, doors: dict[Address, SeenMesh], answers: dict[Address, list[Answer]] | None = None) -> None:
        self._doors = doors
        self._answers = answers or {}
        self.looked: list[Address] = []
        self.knocked: list[tuple[Address, str]] = []
        self.said: list[str] = []
        self.stop = asyncio.Event()
        self.on_knock: Callable[[], None] = lambda: None

    async def look(self, address: Address, deadline_s: float) -> SeenMesh:
        self.looked.append(address)
        if address not in self._doors:
            raise Unreachable("nobody")
        return self._doors[address]

    async def knock(self, address: Address, seen: SeenMesh, code: str, deadline_s: float) -> str | StillWaiting:
        assert seen == self._doors[address]
        self.knocked.append((address, code))
        self.on_knock()
        answers = self._answers[address]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def come_in(self, name: str = "home") -> str | None:
        places = [place(number) for number in range(1, 9)]
        return await Asking(self, ME, self.said.append, self.stop).come_in(name, places)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ASK_AGAIN_S", 0.0)


async def test_a_node_waits_at_the_door_until_it_is_let_in() -> None:
    waiting = StillWaiting("ABCDEFGH2345")
    street = Street({place(2): mesh("home", 2)}, {place(2): [waiting, waiting, "in"]})

    assert await street.come_in() == "in"
    assert street.knocked == [(place(2), ""), (place(2), "ABCDEFGH2345"), (place(2), "ABCDEFGH2345")]
    assert sum("meshd token accept ABCD-EFGH-2345" in line for line in street.said) == 1
    assert any("box-2 at 10.0.0.2:7842" in line and short(ME) in line for line in street.said)


async def test_other_meshes_are_not_asked() -> None:
    street = Street({place(2): mesh("other", 2)})

    assert await street.come_in() is None
    assert (street.knocked, street.said) == ([], [])


async def test_the_next_node_is_asked_where_one_may_not_decide() -> None:
    street = Street(
        {place(number): mesh("home", number) for number in (1, 2, 3)},
        {place(1): [no(RefusalCode.NOT_ISSUER)], place(2): [Unreachable("gone")], place(3): ["in"]},
    )

    assert await street.come_in() == "in"
    assert [address for address, _ in street.knocked] == [place(1), place(2), place(3)]


async def test_where_nobody_may_decide_the_user_is_told_who_was_asked() -> None:
    street = Street({place(1): mesh("home", 1)}, {place(1): [no(RefusalCode.NOT_ISSUER)]})

    with pytest.raises(CannotBelong, match=r"box-1 at 10\.0\.0\.1:7842.*token"):
        await street.come_in()


async def test_a_no_ends_it() -> None:
    waiting = StillWaiting("ABCDEFGH2345")
    street = Street({place(1): mesh("home", 1)}, {place(1): [waiting, no(RefusalCode.PAIRING_REFUSED)]})

    with pytest.raises(CannotBelong, match="because pairing_refused"):
        await street.come_in()


async def test_weather_and_haste_are_waited_out() -> None:
    waiting = StillWaiting("ABCDEFGH2345")
    answers: list[Answer] = [waiting, Unreachable("gone"), no(RefusalCode.BUSY), "in"]
    street = Street({place(1): mesh("home", 1)}, {place(1): answers})

    assert await street.come_in() == "in"
    assert {code for _, code in street.knocked[1:]} == {"ABCDEFGH2345"}


async def test_a_forgotten_request_is_made_again_with_a_new_code() -> None:
    answers: list[Answer] = [
        StillWaiting("OLDCODEOLD22"),
        no(RefusalCode.PAIRING_UNKNOWN),
        StillWaiting("NEWCODENEW22"),
        "in",
    ]
    street = Street({place(1): mesh("home", 1)}, {place(1): answers})

    assert await street.come_in() == "in"
    assert [code for _, code in street.knocked] == ["", "OLDCODEOLD22", "", "NEWCODENEW22"]
    assert [line.strip() for line in street.said if "accept" in line] == [
        "meshd token accept OLDC-ODEO-LD22",
        "meshd token accept NEWC-ODEN-EW22",
    ]


async def test_two_meshes_of_one_name_are_not_chosen_between() -> None:
    street = Street({place(1): mesh("home", 1), place(2): mesh("home", 2, root=b"s")})

    with pytest.raises(CannotBelong, match="several meshes on this network are named 'home'"):
        await street.come_in()
    assert street.knocked == []


async def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "KEPT_S", 0.05)
    street = Street({place(1): mesh("home", 1)}, {place(1): [StillWaiting("ABCDEFGH2345")]})

    with pytest.raises(CannotBelong, match="nobody answered"):
        await street.come_in()


async def test_the_user_may_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ASK_AGAIN_S", 60.0)
    street = Street({place(1): mesh("home", 1)}, {place(1): [StillWaiting("ABCDEFGH2345")]})
    street.on_knock = street.stop.set

    with pytest.raises(CannotBelong, match="stopped before"):
        await street.come_in()


async def test_only_so_many_addresses_are_looked_at_and_each_node_counts_once() -> None:
    street = Street({place(number): mesh("home", number % 2) for number in range(100)})

    doors = await look_at(street, [place(number) for number in range(100)])

    assert len(street.looked) == asking.MAX_LOOKS
    assert [door.address for door in doors] == [place(0), place(1)]
