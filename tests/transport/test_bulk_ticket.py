"""What a ticket for a lane is good for."""

from __future__ import annotations

import random

import pytest

from transport.bulk.ticket import LIFETIME_S, MAX_PER_HOLDER, MAX_TICKETS, TICKET_BYTES, TicketBook
from transport.errors import RefusalCode, Refused
from transport.interface import NodeId

ONE, OTHER = NodeId(b"\x01" * 32), NodeId(b"\x02" * 32)
HOST = "192.0.2.1"
NOW = 100.0


def make_book() -> TicketBook[str]:
    return TicketBook(random.Random(1).randbytes)


def refusal(book: TicketBook[str], ticket: bytes, node: NodeId, now: float) -> RefusalCode:
    with pytest.raises(Refused) as seen:
        book.redeem(ticket, node, now)
    return seen.value.code


def test_ticket_names_its_connection_once() -> None:
    book = make_book()
    ticket = book.issue("connection", ONE, HOST, b"certificate", NOW)
    assert len(ticket) == TICKET_BYTES
    assert book.redeem(ticket, ONE, NOW + 1) == "connection"
    assert refusal(book, ticket, ONE, NOW + 1) is RefusalCode.TOKEN_UNKNOWN


def test_ticket_is_good_for_ten_seconds() -> None:
    book = make_book()
    assert LIFETIME_S == 10
    early = book.issue("connection", ONE, HOST, b"", NOW)
    assert book.redeem(early, ONE, NOW + 9.99) == "connection"
    late = book.issue("connection", ONE, HOST, b"", NOW)
    assert refusal(book, late, ONE, NOW + 10) is RefusalCode.TOKEN_UNKNOWN


def test_another_node_can_neither_use_nor_spend_a_ticket() -> None:
    book = make_book()
    ticket = book.issue("connection", ONE, HOST, b"", NOW)
    assert refusal(book, ticket, OTHER, NOW) is RefusalCode.BAD_PROOF
    assert book.redeem(ticket, ONE, NOW) == "connection"


def test_no_other_bytes_will_do() -> None:
    book = make_book()
    ticket = book.issue("connection", ONE, HOST, b"", NOW)
    assert refusal(book, bytes(TICKET_BYTES), ONE, NOW) is RefusalCode.TOKEN_UNKNOWN
    assert refusal(book, ticket[:-1] + b"\x00", ONE, NOW) is RefusalCode.TOKEN_UNKNOWN


def test_connection_that_ended_takes_its_tickets_along() -> None:
    book = make_book()
    gone, stays = "gone", "stays"
    void = book.issue(gone, ONE, HOST, b"", NOW)
    good = book.issue(stays, ONE, HOST, b"", NOW)
    book.withdraw(gone)
    assert refusal(book, void, ONE, NOW) is RefusalCode.TOKEN_UNKNOWN
    assert book.redeem(good, ONE, NOW) == stays


def test_who_asks_often_loses_the_oldest() -> None:
    book = make_book()
    tickets = [book.issue("connection", ONE, HOST, b"", NOW) for _ in range(MAX_PER_HOLDER + 1)]
    assert len(book) == MAX_PER_HOLDER
    assert refusal(book, tickets[0], ONE, NOW) is RefusalCode.TOKEN_UNKNOWN
    assert book.redeem(tickets[-1], ONE, NOW) == "connection"


def test_tickets_run_out_until_the_old_ones_expire() -> None:
    book = make_book()
    for number in range(MAX_TICKETS):
        book.issue(f"connection {number}", ONE, HOST, b"", NOW)
    with pytest.raises(Refused) as seen:
        book.issue("one more", ONE, HOST, b"", NOW)
    assert seen.value.code is RefusalCode.BUSY
    book.issue("one more", ONE, HOST, b"", NOW + LIFETIME_S)
    assert len(book) == 1


def test_only_hosts_with_a_ticket_out_are_expected() -> None:
    book = make_book()
    assert book.expected_from(HOST, NOW) == []
    book.issue("connection", ONE, HOST, b"one", NOW)
    book.issue("another", OTHER, HOST, b"other", NOW)
    assert book.expected_from(HOST, NOW) == [b"one", b"other"]
    assert book.expected_from("192.0.2.2", NOW) == []
    assert book.expected_from(HOST, NOW + LIFETIME_S) == []
