"""The link decider: who dials when, which of two connections stays, when a peer is lost."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.interface import Address, LinkChanged, LinkState, NodeId, Peer, Role
from transport.link import (
    HIGHER_ID_WAITS_S,
    MAX_BACKOFF_S,
    MAX_DIALS,
    RECONNECTING_S,
    SIMULTANEOUS_S,
    STEADY_AFTER_S,
    Close,
    ConnectionId,
    Dial,
    Effect,
    LinkTable,
    Retire,
    StopDialling,
)

LOW, ME, HIGH = (NodeId(bytes([value]) * 32) for value in (1, 5, 9))
HERE = (Address("192.0.2.1", 7842),)


def table(role: Role = Role.MEMBER, node: NodeId = ME) -> LinkTable:
    """Its dice always fall on the upper end, so that waits are the longest possible."""
    return LinkTable(node, role, lambda low, high: high)


def peer(node: NodeId, boot: int = 1, role: Role = Role.MEMBER) -> Peer:
    return Peer(node, role, boot, "peer", b"")


def number(value: int) -> ConnectionId:
    return ConnectionId(value)


def states(effects: list[Effect]) -> list[LinkState]:
    return [effect.state for effect in effects if isinstance(effect, LinkChanged)]


# Dialling


def test_lower_id_dials_at_once() -> None:
    assert table().keep(HIGH, HERE, 100.0) == [Dial(HIGH, HERE)]


def test_higher_id_waits_for_the_other_to_dial() -> None:
    links = table()
    assert links.keep(LOW, HERE, 100.0) == []
    assert links.next_wake() == 100.0 + HIGHER_ID_WAITS_S
    assert links.tick(100.0 + HIGHER_ID_WAITS_S) == [Dial(LOW, HERE)]


def test_client_dials_whatever_its_id() -> None:
    assert table(Role.CLIENT).keep(LOW, HERE, 0.0) == [Dial(LOW, HERE)]


def test_member_never_dials_a_client_again() -> None:
    links = table()
    links.connected(number(1), peer(HIGH, role=Role.CLIENT), HERE[0], False, 0.0)
    links.keep(HIGH, HERE, 0.0)
    links.disconnected(HIGH, number(1), "asleep", 1.0)
    assert not any(isinstance(effect, Dial) for effect in links.tick(1000.0))


def test_keeping_twice_dials_once_with_the_latest_addresses() -> None:
    links = table()
    links.keep(LOW, HERE, 0.0)
    elsewhere = (Address("192.0.2.2", 1),)
    assert links.keep(LOW, elsewhere, 1.0) == []
    assert links.tick(HIGHER_ID_WAITS_S) == [Dial(LOW, elsewhere)]


def test_node_does_not_link_to_itself() -> None:
    links = table()
    assert links.keep(ME, HERE, 0.0) == []
    assert links.nodes() == []


def test_only_so_many_dials_at_once() -> None:
    links = table(node=NodeId(b"\x00" * 32))
    nodes = [NodeId(bytes([value]) * 32) for value in range(1, 31)]
    dials = [effect for node in nodes for effect in links.keep(node, HERE, 0.0)]
    assert len(dials) == MAX_DIALS
    more = links.dial_failed(nodes[0], 1.0)
    assert len([effect for effect in more if isinstance(effect, Dial)]) == 1


def test_backoff_doubles_up_to_its_ceiling() -> None:
    links = table()
    links.keep(HIGH, HERE, 0.0)
    now, waits = 0.0, []
    for _ in range(9):
        links.dial_failed(HIGH, now)
        wake = min(time for time in [links.next_wake()] if time is not None)
        while not any(isinstance(effect, Dial) for effect in links.tick(wake)):
            wake = links.next_wake() or wake
        waits.append(wake - now)
        now = wake
    assert waits == [1, 2, 4, 8, 16, MAX_BACKOFF_S, MAX_BACKOFF_S, MAX_BACKOFF_S, MAX_BACKOFF_S]


def test_steady_connection_forgives_earlier_failures() -> None:
    links = table()
    links.keep(HIGH, HERE, 0.0)
    for attempt in range(6):
        links.dial_failed(HIGH, attempt * 100.0)
        links.tick(attempt * 100.0 + 99)
    links.connected(number(1), peer(HIGH), HERE[0], True, 1000.0)
    links.disconnected(HIGH, number(1), "cut", 1000.0 + STEADY_AFTER_S)
    assert any(isinstance(effect, Dial) for effect in links.tick(1000.0 + STEADY_AFTER_S + 0.5))


def test_flapping_connection_does_not() -> None:
    links = table()
    links.keep(HIGH, HERE, 0.0)
    now = 0.0
    for attempt in range(8):
        links.connected(number(attempt), peer(HIGH), HERE[0], True, now)
        links.disconnected(HIGH, number(attempt), "cut", now + 1)
        now += 100
        links.tick(now)
    links.connected(number(99), peer(HIGH), HERE[0], True, now)
    links.disconnected(HIGH, number(99), "cut", now + 1)
    assert not any(isinstance(effect, Dial) for effect in links.tick(now + MAX_BACKOFF_S))


# States


def test_connected_reconnecting_lost_and_back() -> None:
    links = table()
    links.keep(LOW, HERE, 0.0)
    assert states(links.connected(number(1), peer(LOW), HERE[0], False, 1.0)) == [LinkState.CONNECTED]
    assert states(links.disconnected(LOW, number(1), "cut", 50.0)) == [LinkState.RECONNECTING]
    assert states(links.tick(50.0 + RECONNECTING_S - 0.1)) == []
    assert states(links.tick(50.0 + RECONNECTING_S)) == [LinkState.LOST]
    assert links.state(LOW) is LinkState.LOST
    assert states(links.connected(number(2), peer(LOW), HERE[0], True, 90.0)) == [LinkState.CONNECTED]


def test_kept_peer_that_never_answers_is_lost_too() -> None:
    links = table()
    links.keep(HIGH, HERE, 0.0)
    (change,) = [effect for effect in links.tick(RECONNECTING_S) if isinstance(effect, LinkChanged)]
    assert (change.state, change.peer) == (LinkState.LOST, None)


def test_peer_that_nobody_keeps_is_forgotten_once_lost() -> None:
    links = table()
    links.connected(number(1), peer(LOW), HERE[0], False, 0.0)
    assert links.nodes() == [LOW]
    links.disconnected(LOW, number(1), "left", 1.0)
    assert not any(isinstance(effect, Dial) for effect in links.tick(5.0))
    assert states(links.tick(1.0 + RECONNECTING_S)) == [LinkState.LOST]
    assert links.nodes() == []


def test_drop_closes_stops_dialling_and_forgets() -> None:
    links = table()
    links.keep(HIGH, HERE, 0.0)
    assert links.drop(HIGH, "left")[0] == StopDialling(HIGH)
    links.keep(HIGH, HERE, 1.0)
    links.connected(number(1), peer(HIGH), HERE[0], True, 2.0)
    effects = links.drop(HIGH, "left")
    assert effects[0] == Close(number(1), "left")
    assert states(effects) == [LinkState.LOST]
    assert links.nodes() == []
    assert links.next_wake() is None


def test_news_of_an_old_connection_changes_nothing() -> None:
    links = table()
    links.connected(number(1), peer(LOW), HERE[0], False, 0.0)
    assert links.disconnected(LOW, number(7), "old", 1.0) == []
    assert links.connection(LOW) == number(1)


# Two connections


@pytest.mark.parametrize("here_first", [True, False])
@pytest.mark.parametrize("other", [LOW, HIGH])
def test_of_simultaneous_dials_the_lower_ids_stays(other: NodeId, here_first: bool) -> None:
    links = table()
    links.connected(number(1), peer(other), HERE[0], here_first, 0.0)
    effects = links.connected(number(2), peer(other), HERE[0], not here_first, 1.0)
    dialled_here, dialled_there = (number(1), number(2)) if here_first else (number(2), number(1))
    stays, goes = (dialled_here, dialled_there) if other == HIGH else (dialled_there, dialled_here)
    assert links.connection(other) == stays
    assert [effect.connection for effect in effects if isinstance(effect, Retire)] == [goes]
    assert states(effects) == []


@given(st.booleans(), st.floats(0, SIMULTANEOUS_S - 0.1))
def test_both_ends_keep_the_same_connection(low_first: bool, gap_s: float) -> None:
    low, high = table(node=LOW), table(node=HIGH)
    order = ["low dialled", "high dialled"] if low_first else ["high dialled", "low dialled"]
    for value, dialler in enumerate(order):
        low.connected(number(value), peer(HIGH), HERE[0], dialler == "low dialled", value * gap_s)
        high.connected(number(value), peer(LOW), HERE[0], dialler == "high dialled", value * gap_s)
    assert low.connection(HIGH) == high.connection(LOW) == order.index("low dialled")


def test_dial_that_comes_much_later_means_the_old_one_is_dead() -> None:
    links = table()
    links.connected(number(1), peer(HIGH), HERE[0], True, 0.0)
    effects = links.connected(number(2), peer(HIGH), HERE[0], False, SIMULTANEOUS_S + 1)
    assert links.connection(HIGH) == number(2)
    assert [effect.connection for effect in effects if isinstance(effect, Retire)] == [number(1)]


def test_higher_boot_closes_the_old_connection_at_once_and_says_so() -> None:
    links = table()
    links.connected(number(1), peer(LOW, boot=1), HERE[0], True, 0.0)
    effects = links.connected(number(2), peer(LOW, boot=2), HERE[0], True, 0.5)
    assert effects[0] == Close(number(1), "peer restarted")
    assert states(effects) == [LinkState.CONNECTED]
    (change,) = [effect for effect in effects if isinstance(effect, LinkChanged)]
    assert change.peer is not None and change.peer.boot == 2


def test_lower_boot_is_sent_away() -> None:
    links = table()
    links.connected(number(1), peer(LOW, boot=2), HERE[0], False, 0.0)
    (effect,) = links.connected(number(2), peer(LOW, boot=1), HERE[0], False, 60.0)
    assert isinstance(effect, Close) and effect.connection == number(2)
    assert links.connection(LOW) == number(1)


def test_incoming_connection_stops_a_dial_that_would_lose() -> None:
    links = table()
    links.keep(LOW, HERE, 0.0)
    links.tick(HIGHER_ID_WAITS_S)
    effects = links.connected(number(1), peer(LOW), HERE[0], False, HIGHER_ID_WAITS_S + 0.1)
    assert StopDialling(LOW) in effects


def test_incoming_connection_leaves_a_dial_that_would_win() -> None:
    links = table()
    links.keep(HIGH, HERE, 0.0)
    effects = links.connected(number(1), peer(HIGH), HERE[0], False, 0.1)
    assert StopDialling(HIGH) not in effects
    links.connected(number(2), peer(HIGH), HERE[0], True, 0.2)
    assert links.connection(HIGH) == number(2)


# Everything at once


@given(st.integers(0, 2**32))
def test_any_history_keeps_the_bounds(seed: int) -> None:
    dice = random.Random(seed)
    links = LinkTable(ME, Role.MEMBER, dice.uniform)
    nodes = [NodeId(bytes([value]) * 32) for value in range(1, 25) if value != 5]
    now, next_number = 0.0, 0
    dialling: set[NodeId] = set()
    live: dict[ConnectionId, NodeId] = {}

    def perform(effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Dial(node):
                    assert node not in dialling
                    dialling.add(node)
                case StopDialling(node):
                    dialling.remove(node)
                case Close(connection) | Retire(connection):
                    del live[connection]
                case LinkChanged():
                    pass

    for _ in range(120):
        now += dice.expovariate(1.0)
        node = dice.choice(nodes)
        match dice.randrange(6):
            case 0 | 1:
                perform(links.keep(node, HERE, now))
            case 2:
                perform(links.drop(node, "chance"))
            case 3 if dialling:
                node = dice.choice(sorted(dialling))
                dialling.remove(node)
                if dice.random() < 0.5:
                    perform(links.dial_failed(node, now))
                else:
                    next_number += 1
                    live[number(next_number)] = node
                    perform(links.connected(number(next_number), peer(node), HERE[0], True, now))
            case 4:
                next_number += 1
                live[number(next_number)] = node
                boot = dice.randrange(3)
                perform(links.connected(number(next_number), peer(node, boot), HERE[0], False, now))
            case 5 if live:
                connection = dice.choice(sorted(live))
                perform(links.disconnected(live.pop(connection), connection, "chance", now))
            case _:
                pass
        perform(links.tick(now))
        assert len(dialling) <= MAX_DIALS
        assert len(live) == len(set(live.values())), "one connection per peer"
        for node in links.nodes():
            assert (links.connection(node) is not None) == (links.state(node) is LinkState.CONNECTED)
        wake = links.next_wake()
        assert wake is None or wake > now
