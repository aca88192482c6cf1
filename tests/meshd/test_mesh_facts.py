"""What nodes pass on of their mesh itself: who tells it, and who is believed about delegates."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gossip.view import NodeView, Status, View
from meshd.mesh_facts import (
    DELEGATES_FACT,
    KEEPERS,
    REVOKED_FACT,
    encode_delegates,
    encode_roots,
    is_delegate,
    is_keeper,
    read_delegates,
    read_roots,
)
from tests.meshd.test_status import node
from transport.errors import ProtocolError
from transport.interface import NodeId, Role

LIST = b"the list"


def member(number: int, value: bytes | None = None, status: Status = Status.ALIVE) -> NodeView:
    facts = {} if value is None else {REVOKED_FACT: value}
    return replace(node(NodeId(bytes([number]) * 32), f"n{number}", facts=facts), status=status)


def keeps(me: int, *others: NodeView) -> bool:
    return is_keeper(View(1, (member(me), *others)), REVOKED_FACT, LIST)


def test_the_first_three_tell() -> None:
    told = [member(number, LIST) for number in range(1, 8)]
    tellers = [me for me in range(1, 8) if keeps(me, *(one for one in told if one.node[0] != me))]
    assert tellers == [1, 2, 3] and len(tellers) == KEEPERS


def test_a_late_one_tells_what_nobody_else_does() -> None:
    assert keeps(9, *(member(number) for number in range(1, 8)))
    assert keeps(9, *(member(number, b"another list") for number in range(1, 8)))
    assert not keeps(9, member(8, LIST), *(member(number) for number in range(1, 8)))


def test_the_dead_and_clients_do_not_count() -> None:
    dead = [member(number, LIST, Status.DEAD) for number in range(1, 5)]
    clients = [replace(member(number), role=Role.CLIENT) for number in range(5, 8)]
    assert keeps(9, *dead, *clients)


def test_whoever_decides_alike_ends_with_three_tellers() -> None:
    """Each looks at what the others tell, in any order, until nothing changes."""
    telling = {7}
    for _ in range(10):
        for me in (5, 9, 1, 3, 8, 7, 2, 6, 4):
            others = [member(one, LIST if one in telling else None) for one in range(1, 10) if one != me]
            telling = telling | {me} if keeps(me, *others) else telling - {me}
    assert telling == {1, 2, 3}


def test_successions_and_delegates_come_back_as_they_went() -> None:
    teller = NodeId(b"t" * 32)
    assert read_roots(encode_roots((b"one", b"two")), teller) == (b"one", b"two")
    named = frozenset({NodeId(b"a" * 32), NodeId(b"b" * 32)})
    assert read_delegates(encode_delegates(named), teller) == named


@pytest.mark.parametrize("value", [b"", b"\xc1", b"\x80", encode_roots(())[:-1]])
def test_what_cannot_be_read_is_the_tellers_fault(value: bytes) -> None:
    for read in (read_roots, read_delegates):
        with pytest.raises(ProtocolError):
            read(value, NodeId(b"t" * 32))


def told_by(role: Role, value: bytes) -> View:
    teller = replace(member(1), role=role, facts={DELEGATES_FACT: value})
    return View(1, (member(9), teller))


def test_only_an_owner_names_delegates() -> None:
    me = NodeId(bytes([9]) * 32)
    assert is_delegate(told_by(Role.OWNER, encode_delegates([me])), me) is True
    assert is_delegate(told_by(Role.OWNER, encode_delegates([])), me) is False
    assert is_delegate(told_by(Role.MEMBER, encode_delegates([me])), me) is None
    assert is_delegate(told_by(Role.OWNER, b"nonsense"), me) is None
    assert is_delegate(View(1, (member(9),)), me) is None
