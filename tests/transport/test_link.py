"""The link decider: who dials when, which of two connections stays, when a peer is lost."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.interface import Address, LinkChanged, LinkState, NodeId, Peer, Role
from transport.link import (
    ANSWER_S,
    FIRST_BACKOFF_S,
    HIGHER_ID_WAITS_S,
    MAX_BACKOFF_S,
    MAX_DIALS,
    MAX_HURRIED_WAIT_S,
    OTHER_END_WAITS_S,
    RECONNECTING_S,
    SIMULTANEOUS_S,
    STEADY_AFTER_S,
    LinkTable,
)
from transport.link_effect import (
    AskToDial,
    Close,
    ConnectionId,
    Dial,
    Effect,
    Probe,
    Retire,
    Slot,
    StopDialling,
    slot_for,
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


def flapped(other: NodeId, times: int) -> tuple[LinkTable, float]:
    """A link that came up and broke again at once, and when it last broke."""
    links = table()
    links.keep(other, HERE, 0.0)
    now = 0.0
    for attempt in range(times):
        now += 100
        links.tick(now)
        links.connected(number(attempt), peer(other), HERE[0], True, now)
        links.disconnected(other, number(attempt), "cut", now + 1)
    return links, now + 1


def waited_s(links: LinkTable, broke_at: float) -> float:
    return (links.next_wake() or 0.0) - broke_at


def test_flapping_connection_does_not() -> None:
    """It waits longer than one that was steady, and never so long that what it carries is given up."""
    assert waited_s(*flapped(HIGH, 1)) == min(2 * FIRST_BACKOFF_S, MAX_HURRIED_WAIT_S)
    assert waited_s(*flapped(HIGH, 20)) == MAX_HURRIED_WAIT_S


@pytest.mark.parametrize("other", [LOW, HIGH])
def test_end_that_had_dialled_dials_a_broken_link_first_whatever_its_id(other: NodeId) -> None:
    links, broke_at = flapped(other, 1)
    assert links.tick(broke_at + MAX_HURRIED_WAIT_S) == [Dial(other, HERE, in_hurry=True)]
    links = linked(other, False)
    links.dial_failed(other, 5.0)  # ours, where we had dialled as well
    links.disconnected(other, number(1), "cut", 100.0)
    assert links.next_wake() == 100.0 + OTHER_END_WAITS_S + FIRST_BACKOFF_S
    assert [dial.in_hurry for dial in links.tick(103.0) if isinstance(dial, Dial)] == [True]


def test_broken_link_is_looked_for_first_where_it_was() -> None:
    links = linked(HIGH, True)
    links.disconnected(HIGH, number(1), "cut", 100.0)
    assert links.tick(101.0) == [Dial(HIGH, (THERE, *HERE), in_hurry=True)]


def test_link_that_never_was_is_dialled_without_hurry() -> None:
    links = table()
    assert links.keep(HIGH, HERE, 0.0) == [Dial(HIGH, HERE, in_hurry=False)]
    links.dial_failed(HIGH, 5.0)
    assert links.tick(6.0) == [Dial(HIGH, HERE, in_hurry=False)]


def test_dials_in_a_hurry_follow_one_another_until_the_link_is_lost() -> None:
    links, broke_at = flapped(HIGH, 20)
    now, waits, hurried = broke_at, [], []
    for _ in range(12):
        wake = links.next_wake()
        assert wake is not None
        for dial in links.tick(wake):
            if isinstance(dial, Dial):
                waits.append(wake - now)
                hurried.append(dial.in_hurry)
                now = wake + 1.5
                links.dial_failed(HIGH, now)
    assert waits[:4] == [MAX_HURRIED_WAIT_S] * 4 and hurried[:4] == [True] * 4
    assert waits[-1] == MAX_BACKOFF_S and not hurried[-1]


@given(st.integers(0, 2**32), st.integers(0, 8))
def test_backoff_is_full_jitter_below_its_ceiling(seed: int, failures: int) -> None:
    """Anything from at once to the ceiling, so that many that failed together do not return together."""
    links = LinkTable(ME, Role.MEMBER, random.Random(seed).uniform)
    links.keep(HIGH, HERE, 0.0)
    now = 0.0
    for _ in range(failures):
        links.dial_failed(HIGH, now)
        now += 2 * MAX_BACKOFF_S
        links.tick(now)
    links.dial_failed(HIGH, now)
    dice = random.Random(seed)
    ceilings = [min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2**attempt) for attempt in range(1, failures + 2)]
    *_, expected_s = [dice.uniform(0.0, ceiling_s) for ceiling_s in ceilings]
    lost_at = RECONNECTING_S if failures == 0 else float("inf")
    assert links.next_wake() == min(lost_at, now + expected_s)


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


# The data connection


def test_protocols_that_gossip_depends_on_have_the_control_connection_to_themselves() -> None:
    assert {slot_for(name) for name in ("gossip/1", "renew/1", "join/1")} == {Slot.CONTROL}
    others = ("chat/1", "form/1", "tunnel/1", "blob/1", "session/1", "draft/1", "poc/1", "what/9")
    assert {slot_for(name) for name in others} == {Slot.DATA}


def linked(other: NodeId, is_dialled_here: bool, boot: int = 1) -> LinkTable:
    """A link with control connection 1."""
    links = table()
    links.keep(other, HERE, 0.0)
    links.connected(number(1), peer(other, boot), THERE, is_dialled_here, 0.0)
    return links


THERE = Address("192.0.2.9", 7842)


def add_data(links: LinkTable, other: NodeId, now: float, is_dialled_here: bool = True) -> None:
    """Give the link data connection 2."""
    links.connected(number(2), peer(other), THERE, is_dialled_here, now, Slot.DATA)


@pytest.mark.parametrize("other", [LOW, HIGH])
def test_whoever_dialled_the_control_connection_dials_data_to_where_it_went(other: NodeId) -> None:
    assert Dial(other, (THERE,), Slot.DATA) in linked(other, True).want_data(other, 1.0)
    assert linked(other, False).want_data(other, 1.0) == [AskToDial(number(1))]


def test_data_is_dialled_when_the_peer_asks_and_only_by_the_end_that_should() -> None:
    assert Dial(HIGH, (THERE,), Slot.DATA) in linked(HIGH, True).asked_to_dial(HIGH, 1.0)
    assert linked(HIGH, False).asked_to_dial(HIGH, 1.0) == []
    assert table().asked_to_dial(HIGH, 1.0) == []


def test_wanting_data_twice_dials_once() -> None:
    links = linked(HIGH, True)
    assert links.want_data(HIGH, 1.0)
    assert links.want_data(HIGH, 1.0) == []
    add_data(links, HIGH, 2.0)
    assert links.connection(HIGH, Slot.DATA) == number(2)
    assert links.want_data(HIGH, 3.0) == []


def test_wanting_data_also_asks_whether_the_peer_is_there() -> None:
    assert Probe(number(1)) in linked(HIGH, True).want_data(HIGH, 1.0)


def test_data_dial_that_failed_is_repeated_on_demand_only_and_with_backoff() -> None:
    links = linked(HIGH, True)
    links.want_data(HIGH, 1.0)
    assert links.dial_failed(HIGH, 2.0, Slot.DATA) == []
    assert links.next_wake() is None
    assert not any(isinstance(effect, Dial) for effect in links.want_data(HIGH, 3.0))
    assert links.next_wake() == 3.0 + 2 * FIRST_BACKOFF_S


def test_without_a_link_there_is_no_data_connection_to_want() -> None:
    links = linked(HIGH, True)
    links.disconnected(HIGH, number(1), "cut", 1.0)
    assert links.want_data(HIGH, 2.0) == []
    assert links.want_data(LOW, 2.0) == []


def test_end_of_a_data_connection_leaves_the_link_up() -> None:
    links = linked(HIGH, True)
    add_data(links, HIGH, 1.0)
    assert links.disconnected(HIGH, number(2), "cut", 2.0) == []
    assert links.state(HIGH) is LinkState.CONNECTED
    assert links.connection(HIGH, Slot.DATA) is None


def test_idle_data_connection_is_retired_and_a_control_connection_never() -> None:
    links = linked(HIGH, True)
    add_data(links, HIGH, 1.0)
    assert links.idle(HIGH, number(1)) == []
    assert links.idle(HIGH, number(2)) == [Retire(number(2), "idle")]
    assert links.connection(HIGH, Slot.DATA) is None
    assert links.state(HIGH) is LinkState.CONNECTED


def test_data_connection_outlives_its_control_connection_until_the_link_is_lost() -> None:
    links = linked(HIGH, True)
    add_data(links, HIGH, 1.0)
    effects = links.disconnected(HIGH, number(1), "cut", 50.0)
    assert not any(isinstance(effect, Close) for effect in effects)
    effects = links.tick(50.0 + RECONNECTING_S)
    assert [effect.connection for effect in effects if isinstance(effect, Close)] == [number(2)]
    assert states(effects) == [LinkState.LOST]


def test_data_connection_that_overtakes_its_control_connection_waits_for_it_only_so_long() -> None:
    links = table()
    links.connected(number(2), peer(LOW), THERE, False, 0.0, Slot.DATA)
    assert links.state(LOW) is LinkState.RECONNECTING
    assert states(links.connected(number(1), peer(LOW), THERE, False, 1.0)) == [LinkState.CONNECTED]
    assert links.connection(LOW, Slot.DATA) == number(2)

    links.connected(number(3), peer(HIGH), THERE, False, 0.0, Slot.DATA)
    effects = links.tick(RECONNECTING_S)
    assert Close(number(3), f"no connection for {RECONNECTING_S:.0f} s") in effects
    assert HIGH not in links.nodes()


@pytest.mark.parametrize("slot", list(Slot))
def test_restart_closes_both_old_connections_whichever_comes_first(slot: Slot) -> None:
    links = linked(HIGH, False, boot=1)
    add_data(links, HIGH, 0.5, is_dialled_here=False)
    effects = links.connected(number(3), peer(HIGH, boot=2), THERE, False, 1.0, slot)
    closed = {effect.connection for effect in effects if isinstance(effect, Close)}
    assert closed == {number(1), number(2)}
    assert links.connection(HIGH, slot) == number(3)
    assert states(effects) == [LinkState.CONNECTED if slot is Slot.CONTROL else LinkState.RECONNECTING]


def test_old_boot_is_sent_away_in_either_slot() -> None:
    links = linked(HIGH, False, boot=2)
    (effect,) = links.connected(number(2), peer(HIGH, boot=1), THERE, False, 1.0, Slot.DATA)
    assert effect == Close(number(2), "peer has started again since")


@pytest.mark.parametrize("other", [LOW, HIGH])
def test_duplicate_rule_holds_for_data_connections(other: NodeId) -> None:
    links = linked(other, True)
    links.connected(number(2), peer(other), THERE, True, 1.0, Slot.DATA)
    effects = links.connected(number(3), peer(other), THERE, False, 1.5, Slot.DATA)
    stays, goes = (number(2), number(3)) if other == HIGH else (number(3), number(2))
    assert links.connection(other, Slot.DATA) == stays
    assert [effect.connection for effect in effects if isinstance(effect, Retire)] == [goes]
    assert links.connection(other) == number(1)


def test_dropping_ends_both_connections_and_both_dials() -> None:
    links = linked(HIGH, True)
    links.want_data(HIGH, 1.0)
    effects = links.drop(HIGH, "left")
    assert StopDialling(HIGH, Slot.DATA) in effects and Close(number(1), "left") in effects
    links = linked(HIGH, True)
    add_data(links, HIGH, 1.0)
    assert [effect for effect in links.drop(HIGH, "left") if isinstance(effect, Close)] == [
        Close(number(1), "left"),
        Close(number(2), "left"),
    ]


def test_dials_of_both_kinds_share_one_bound() -> None:
    links = table(node=NodeId(b"\x00" * 32))
    nodes = [NodeId(bytes([value]) * 32) for value in range(1, 31)]
    effects: list[Effect] = []
    for value, node in enumerate(nodes):
        links.connected(number(value), peer(node), THERE, True, 0.0)
        effects += links.want_data(node, 1.0)
    assert len([effect for effect in effects if isinstance(effect, Dial)]) == MAX_DIALS
    assert links.next_wake() is None  # until one of them is over
    assert any(isinstance(effect, Dial) for effect in links.dial_failed(nodes[0], 2.0, Slot.DATA))


# Doubt


def test_doubted_peer_is_reconnecting_at_once_and_keeps_its_connections() -> None:
    links = linked(HIGH, True)
    add_data(links, HIGH, 1.0)
    effects = links.doubt(HIGH, "gossip says dead", 2.0)
    assert states(effects) == [LinkState.RECONNECTING]
    assert Probe(number(1)) in effects
    assert not any(isinstance(effect, Close | Retire) for effect in effects)
    assert links.connection(HIGH) == number(1)  # datagrams still go there
    assert links.want_data(HIGH, 2.0) == []  # new work does not


def test_doubted_peer_that_answers_is_connected_again() -> None:
    links = linked(HIGH, True)
    links.doubt(HIGH, "gossip says dead", 2.0)
    assert states(links.answered(HIGH, number(1))) == [LinkState.CONNECTED]
    assert links.answered(HIGH, number(1)) == []  # no news without a doubt
    assert links.next_wake() is None


def test_doubted_peer_that_stays_silent_is_lost_when_the_doubt_is_old_enough() -> None:
    links = linked(HIGH, True)
    add_data(links, HIGH, 1.0)
    links.doubt(HIGH, "gossip says dead", 20.0)
    assert states(links.disconnected(HIGH, number(1), "no sign of life", 24.0)) == []
    effects = links.tick(20.0 + RECONNECTING_S)
    assert states(effects) == [LinkState.LOST]
    assert [effect.connection for effect in effects if isinstance(effect, Close)] == [number(2)]


def test_doubted_peer_that_dials_is_connected_again_whichever_connection_stays() -> None:
    for other in (LOW, HIGH):
        links = linked(other, True)
        links.doubt(other, "gossip says dead", 1.0)
        assert states(links.connected(number(2), peer(other), THERE, False, 2.0)) == [LinkState.CONNECTED]


def test_doubted_peer_is_dialled_anew_unless_it_answers_first() -> None:
    links = linked(HIGH, True)
    links.doubt(HIGH, "gossip says dead", 100.0)
    assert links.tick(100.0 + ANSWER_S + FIRST_BACKOFF_S) == [Dial(HIGH, (THERE, *HERE), in_hurry=True)]
    assert StopDialling(HIGH) in links.answered(HIGH, number(1))
    links.doubt(HIGH, "gossip says dead", 200.0)
    links.answered(HIGH, number(1))
    assert links.next_wake() is None


def test_doubted_peer_that_is_reached_anew_loses_the_old_connection() -> None:
    links = linked(HIGH, True)
    links.doubt(HIGH, "gossip says dead", 100.0)
    links.tick(101.0)
    effects = links.connected(number(2), peer(HIGH), THERE, True, 101.5)
    assert [effect.connection for effect in effects if isinstance(effect, Retire)] == [number(1)]
    assert links.connection(HIGH) == number(2) and states(effects) == [LinkState.CONNECTED]


def test_dial_of_a_doubted_peer_that_fails_is_repeated() -> None:
    links = linked(HIGH, True)
    links.doubt(HIGH, "gossip says dead", 100.0)
    links.tick(101.0)
    links.dial_failed(HIGH, 106.0)
    assert any(isinstance(effect, Dial) for effect in links.tick(106.0 + MAX_HURRIED_WAIT_S))


def test_silent_data_connection_makes_the_control_connection_doubted_and_a_closed_one_does_not() -> None:
    links = linked(HIGH, True)
    add_data(links, HIGH, 1.0)
    effects = links.disconnected(HIGH, number(2), "no sign of life", 20.0, was_silent=True)
    assert states(effects) == [LinkState.RECONNECTING] and Probe(number(1)) in effects
    links = linked(HIGH, True)
    add_data(links, HIGH, 1.0)
    assert links.disconnected(HIGH, number(2), "connection closed: idle", 20.0) == []


def test_broken_link_takes_a_dial_for_its_data_with_it_and_dials_data_at_once_when_it_is_back() -> None:
    links = linked(HIGH, True)
    for attempt in range(5):
        add_data(links, HIGH, 1.0 + attempt)
        links.disconnected(HIGH, number(2), "cut", 1.5 + attempt)
    links.want_data(HIGH, 10.0)
    links.tick(11.0)
    assert StopDialling(HIGH, Slot.DATA) in links.disconnected(HIGH, number(1), "cut", 12.0)
    links.connected(number(3), peer(HIGH), THERE, True, 13.0)
    assert Dial(HIGH, (THERE,), Slot.DATA) in links.want_data(HIGH, 13.0)


def test_doubt_of_whom_nobody_is_connected_to_is_no_news() -> None:
    links = linked(HIGH, True)
    assert links.doubt(LOW, "gossip says dead", 1.0) == []
    links.disconnected(HIGH, number(1), "cut", 2.0)
    assert links.doubt(HIGH, "gossip says dead", 3.0) == []


# Everything at once


@given(st.integers(0, 2**32))
def test_any_history_keeps_the_bounds(seed: int) -> None:
    dice = random.Random(seed)
    links = LinkTable(ME, Role.MEMBER, dice.uniform)
    nodes = [NodeId(bytes([value]) * 32) for value in range(1, 25) if value != 5]
    now, next_number = 0.0, 0
    dialling: set[tuple[NodeId, Slot]] = set()
    live: dict[ConnectionId, tuple[NodeId, Slot]] = {}

    def perform(effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Dial(node, _, slot):
                    assert (node, slot) not in dialling
                    dialling.add((node, slot))
                case StopDialling(node, slot):
                    dialling.remove((node, slot))
                case Close(connection) | Retire(connection):
                    del live[connection]
                case AskToDial(connection) | Probe(connection):
                    assert live[connection][1] is Slot.CONTROL
                case LinkChanged():
                    pass

    def arrive(node: NodeId, slot: Slot, boot: int, is_dialled_here: bool) -> None:
        nonlocal next_number
        next_number += 1
        live[number(next_number)] = (node, slot)
        perform(links.connected(number(next_number), peer(node, boot), HERE[0], is_dialled_here, now, slot))

    for _ in range(150):
        now += dice.expovariate(1.0)
        node = dice.choice(nodes)
        slot = dice.choice(list(Slot))
        match dice.randrange(9):
            case 0 | 1:
                perform(links.keep(node, HERE, now))
            case 2:
                perform(links.drop(node, "chance"))
            case 3 if dialling:
                node, slot = dice.choice(sorted(dialling, key=lambda dial: (dial[0], dial[1].value)))
                dialling.remove((node, slot))
                if dice.random() < 0.5:
                    perform(links.dial_failed(node, now, slot))
                else:
                    arrive(node, slot, 1, True)
            case 4:
                arrive(node, slot, dice.randrange(3), False)
            case 5 if live:
                connection = dice.choice(sorted(live))
                perform(links.disconnected(live.pop(connection)[0], connection, "chance", now))
            case 6:
                perform(links.want_data(node, now))
                perform(links.asked_to_dial(node, now))
            case 7:
                perform(links.doubt(node, "chance", now))
            case 8 if live:
                connection = dice.choice(sorted(live))
                node, slot = live[connection]
                perform(links.answered(node, connection) if slot is Slot.CONTROL else links.idle(node, connection))
            case _:
                pass
        perform(links.tick(now))
        assert len(dialling) <= MAX_DIALS
        assert len(live) == len(set(live.values())), "one connection per peer and slot"
        for node in links.nodes():
            held = {slot: links.connection(node, slot) for slot in Slot}
            assert all(live[connection] == (node, slot) for slot, connection in held.items() if connection is not None)
            match links.state(node):
                case LinkState.CONNECTED:
                    assert held[Slot.CONTROL] is not None
                case LinkState.LOST:
                    assert set(held.values()) == {None}
        wake = links.next_wake()
        assert wake is None or wake > now
