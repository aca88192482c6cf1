"""The address book on disk."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gossip.addressbook import FORGET_S, MAX_NODES, AddressBook
from transport.interface import Address, NodeId

ALICE, BOB = NodeId(b"a" * 32), NodeId(b"b" * 32)
PLACES = {ALICE: (Address("10.0.0.1", 7842), Address("fe80::1", 7842)), BOB: (Address("bob.lan", 1),)}


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(tmp_path: Path, clock: Clock) -> AddressBook:
    return AddressBook(tmp_path / "addresses.json", clock)


def test_what_was_saved_is_loaded_by_the_next_start(book: AddressBook, tmp_path: Path, clock: Clock) -> None:
    book.save(PLACES, [ALICE])
    assert AddressBook(tmp_path / "addresses.json", clock).load() == PLACES


def test_the_file_is_for_its_owner_only_and_nothing_is_left_beside_it(book: AddressBook, tmp_path: Path) -> None:
    book.save(PLACES, [])
    book.save(PLACES, [])
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_no_book_is_an_empty_one(book: AddressBook) -> None:
    assert book.load() == {}


@pytest.mark.parametrize(
    "damage", [b"", b"\xff", b"[]", b'{"version": 2, "nodes": []}', b'{"version":1,"nodes":[{"node":"x"}]}']
)
def test_a_damaged_book_is_put_aside_and_the_node_starts_without(
    book: AddressBook, tmp_path: Path, damage: bytes
) -> None:
    (tmp_path / "addresses.json").write_bytes(damage)
    assert book.load() == {}
    assert (tmp_path / "addresses.damaged").read_bytes() == damage
    book.save(PLACES, [])
    assert book.load() == PLACES


def test_a_book_of_unreasonable_size_is_not_read(book: AddressBook, tmp_path: Path) -> None:
    (tmp_path / "addresses.json").write_bytes(b" " * ((1 << 20) + 1))
    assert book.load() == {}


def test_nodes_unseen_for_months_are_forgotten(book: AddressBook, clock: Clock) -> None:
    book.save(PLACES, PLACES)
    clock.now += FORGET_S - 1
    book.save(PLACES, [BOB])
    clock.now += 2
    assert book.load() == {BOB: PLACES[BOB]}


def test_the_book_is_bounded_and_keeps_those_last_seen(book: AddressBook, clock: Clock) -> None:
    places = {NodeId(index.to_bytes(32, "big")): (Address("10.0.0.1", 1),) for index in range(MAX_NODES + 10)}
    book.save(places, places)
    clock.now += 60.0
    last = NodeId((MAX_NODES + 9).to_bytes(32, "big"))
    book.save(places, [last])
    loaded = book.load()
    assert len(loaded) == MAX_NODES
    assert next(iter(loaded)) == last


def test_a_book_that_cannot_be_written_leaves_the_old_one(
    book: AddressBook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.save(PLACES, [])

    def no_room(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("transport.whole_file.os.fsync", no_room)
    with pytest.raises(OSError, match="no space"):
        book.save({ALICE: ()}, [])
    assert book.load() == PLACES
    assert [file.name for file in tmp_path.iterdir()] == ["addresses.json"]
