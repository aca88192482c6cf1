"""What lies between simulated nodes: delays, loss, blocks, bursts, and the order of things."""

from __future__ import annotations

import random
from itertools import pairwise

from gossip.simulator.agenda import Agenda
from gossip.simulator.network import Bursts, Conditions, Network
from transport.interface import NodeId

ONE, OTHER = NodeId(b"1" * 32), NodeId(b"2" * 32)


def network(**conditions: object) -> Network:
    return Network(Conditions(**conditions), random.Random(7))  # type: ignore[arg-type]


def test_an_agenda_does_what_is_due_in_order_and_ties_as_planned() -> None:
    agenda, done = Agenda(100.0), []
    for wait_s, name in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (9.0, "late")):
        agenda.after(wait_s, lambda name=name: done.append((agenda.now, name)))  # type: ignore[misc]
    agenda.run_until(105.0)
    assert done == [(101.0, "a"), (101.0, "b"), (102.0, "c")]
    assert agenda.now == 105.0


def test_an_action_may_plan_another_for_now() -> None:
    agenda, done = Agenda(0.0), []
    agenda.after(1.0, lambda: agenda.after(-5.0, lambda: done.append(agenda.now)))
    agenda.run_until(1.0)
    assert done == [1.0]


def test_delays_lie_between_half_a_round_trip_and_its_jitter() -> None:
    between = network(rtt_s=0.1, jitter=0.5)
    delays = [between.delay_s() for _ in range(500)]
    assert 0.05 <= min(delays) < max(delays) <= 0.075


def test_blocks_are_of_one_direction_and_add_up() -> None:
    between = network()
    between.block([(ONE, OTHER)])
    between.block([(ONE, OTHER)])
    assert between.arrivals(ONE, OTHER) == []
    assert len(between.arrivals(OTHER, ONE)) == 1
    assert not between.are_connected(OTHER, ONE)
    wholes = []
    for _ in range(2):
        between.unblock([(ONE, OTHER)])
        wholes.append((between.is_whole, between.are_connected(ONE, OTHER)))
    assert wholes == [(False, False), (True, True)]


def test_loss_and_duplication_have_the_shares_they_were_given() -> None:
    between = network(loss=0.3, duplication=0.1)
    copies = [len(between.arrivals(ONE, OTHER)) for _ in range(5000)]
    assert 0.27 < copies.count(0) / 5000 < 0.33
    assert 0.05 < copies.count(2) / 5000 < 0.09


def test_losses_of_bursts_come_together() -> None:
    between = network(bursts=Bursts())
    lost = [between.loses(ONE, OTHER) for _ in range(20_000)]
    share = sum(lost) / len(lost)
    after_a_loss = [later for former, later in pairwise(lost) if former]
    assert 0.02 < share < 0.1
    assert sum(after_a_loss) / len(after_a_loss) > 4 * share


def test_what_must_arrive_is_sent_again_ever_later() -> None:
    waits = [network(rtt_s=0.02).retry_s(attempt) for attempt in range(8)]
    assert waits[:4] == [0.05, 0.1, 0.2, 0.4]
    assert waits[-1] == 1.0
