"""Who gets a lease at a worker, for how long, and who does not."""

from __future__ import annotations

import pytest

from gossip.fence import MAX_FENCES, Fence, FenceEntry, Fences
from gossip.grant import (
    MAX_LEASES,
    MAX_LEASES_PER_HOST,
    Answer,
    Began,
    Ended,
    Grants,
    NotRemembered,
    Remember,
    Tick,
)
from gossip.lease import MAX_TERM_LEAP
from gossip.lease_message import LEASE_S, LeaseGranted, LeaseRefused, LeaseReleased, LeaseRequest, RefusalCode, Reply
from tests.gossip.leases import ALICE, BOB, CAROL, GIB, MODEL, Worker, lease_id, reply, request
from transport.interface import NodeId


def code(answer: Reply) -> RefusalCode:
    assert isinstance(answer, LeaseRefused)
    return answer.code


def served_by(host: NodeId, term: int) -> Worker:
    """A worker with a fresh lease of `host`, of id 1."""
    worker = Worker()
    worker.sees(host, term)
    assert worker.ask(host, request(term)) == LeaseGranted(10_000)
    return worker


def test_the_fence_is_on_disk_before_the_lease_begins() -> None:
    worker = Worker()
    worker.sees(ALICE, 4)

    effects = worker.asked(ALICE, request(4))

    assert [type(effect) for effect in effects[:2]] == [Remember, Began]
    assert reply(effects) == LeaseGranted(round(LEASE_S * 1000))
    assert worker.fences.get(MODEL) == Fence(4, ALICE)
    assert worker.serves(ALICE, 4)


def test_a_lease_runs_out_where_nobody_renews_it() -> None:
    worker = served_by(ALICE, 4)
    worker.now += LEASE_S - 0.001
    assert worker.grants.handle(worker.now, Tick()) == []
    assert worker.serves(ALICE, 4)

    assert worker.grants.next_deadline == pytest.approx(worker.now + 0.001)
    worker.now = worker.grants.next_deadline
    assert not worker.serves(ALICE, 4)
    (ended,) = worker.grants.handle(worker.now, Tick())
    assert isinstance(ended, Ended) and ended.reason == "it was not renewed"
    assert code(worker.ask(ALICE, request(4, is_new=False))) is RefusalCode.NOT_HELD


def test_a_renewal_lasts_ten_seconds_more_and_touches_no_disk() -> None:
    worker = served_by(ALICE, 4)
    worker.claims.clear()  # a host that holds a lease need not be seen
    worker.now += 6
    effects = worker.asked(ALICE, request(4, is_new=False))
    assert reply(effects) == LeaseGranted(10_000) and len(effects) == 1
    worker.now += 6
    assert worker.serves(ALICE, 4)


def test_a_first_request_that_comes_twice_is_one_lease() -> None:
    worker = served_by(ALICE, 4)
    effects = worker.asked(ALICE, request(4))
    # The disk may not have answered the first one yet.
    assert effects == [Remember(), Answer(LeaseGranted(10_000))]
    assert len(worker.grants.grants(worker.now)) == 1


def test_a_lower_term_is_stale_and_so_is_another_host_in_the_same() -> None:
    worker = served_by(BOB, 5)
    for host, term in ((ALICE, 4), (ALICE, 5), (BOB, 4)):
        worker.sees(host, term)
        refused = worker.ask(host, request(term))
        assert code(refused) is RefusalCode.STALE_TERM
        assert isinstance(refused, LeaseRefused) and refused.term == 5


def test_who_is_refused_as_stale_hears_whether_somebody_else_leads() -> None:
    worker = served_by(BOB, 5)
    refused = worker.ask(ALICE, request(4))
    assert isinstance(refused, LeaseRefused) and refused.is_led
    worker.claims.clear()  # Bob has gone, or given up
    refused = worker.ask(ALICE, request(4))
    assert isinstance(refused, LeaseRefused) and not refused.is_led
    worker.sees(ALICE, 4)
    refused = worker.ask(ALICE, request(4))
    assert isinstance(refused, LeaseRefused) and not refused.is_led
    worker.sees(CAROL, 4)  # leads in a term that is over here: Carol has to step up as well
    refused = worker.ask(ALICE, request(4))
    assert isinstance(refused, LeaseRefused) and not refused.is_led


def test_a_claim_that_is_not_seen_gets_nothing_and_raises_nothing() -> None:
    worker = Worker()
    assert code(worker.ask(ALICE, request(9))) is RefusalCode.NOT_CLAIMED
    worker.sees(BOB, 9)
    refused = worker.ask(ALICE, request(9))
    assert code(refused) is RefusalCode.NOT_CLAIMED
    assert isinstance(refused, LeaseRefused) and refused.term == 9
    assert MODEL not in worker.fences


def test_a_higher_term_ends_the_first_lease_at_once_and_begins_when_that_host_has_stopped() -> None:
    worker = served_by(ALICE, 4)
    worker.now += 2
    worker.sees(BOB, 5)

    effects = worker.asked(BOB, request(5, lease=2))

    assert [type(effect) for effect in effects[:2]] == [Ended, Remember]
    refused = reply(effects)
    assert code(refused) is RefusalCode.BUSY
    assert isinstance(refused, LeaseRefused) and refused.retry_ms == 8000
    assert not worker.serves(ALICE, 4)
    assert code(worker.ask(ALICE, request(4, is_new=False))) is RefusalCode.STALE_TERM
    worker.now += 7.9
    assert code(worker.ask(BOB, request(5, lease=2))) is RefusalCode.BUSY
    worker.now += 0.1
    assert worker.ask(BOB, request(5, lease=2)) == LeaseGranted(10_000)


def test_or_when_it_has_let_go() -> None:
    worker = served_by(ALICE, 4)
    worker.sees(BOB, 5)
    worker.ask(BOB, request(5, lease=2))

    assert worker.let_go(ALICE) == LeaseReleased()
    assert worker.ask(BOB, request(5, lease=2)) == LeaseGranted(10_000)


def test_nobody_else_lets_go_for_a_host() -> None:
    worker = served_by(ALICE, 4)
    assert worker.let_go(BOB) == LeaseReleased()
    assert worker.let_go(ALICE, lease=2) == LeaseReleased()
    assert worker.serves(ALICE, 4)
    worker.let_go(ALICE)
    assert not worker.serves(ALICE, 4)


def test_a_host_that_steps_up_or_restarts_need_not_wait_for_itself() -> None:
    worker = served_by(ALICE, 4)
    worker.sees(ALICE, 5)
    effects = worker.asked(ALICE, request(5, lease=2))
    assert isinstance(effects[0], Ended) and reply(effects) == LeaseGranted(10_000)
    assert worker.serves(ALICE, 5, lease=2) and not worker.serves(ALICE, 4)

    assert worker.ask(ALICE, request(5, lease=3), boot=2) == LeaseGranted(10_000)
    assert worker.serves(ALICE, 5, lease=3, boot=2) and not worker.serves(ALICE, 5, lease=2)
    assert code(worker.ask(ALICE, request(5, lease=4), boot=1)) is RefusalCode.NOT_HELD


def test_a_lease_counts_for_its_own_host_boot_term_and_id_only() -> None:
    worker = served_by(ALICE, 4)
    assert worker.serves(ALICE, 4)
    assert not worker.serves(BOB, 4)
    assert not worker.serves(ALICE, 5)
    assert not worker.serves(ALICE, 4, boot=2)
    assert not worker.serves(ALICE, 4, lease=2)


def test_after_a_restart_leases_are_gone_and_the_fence_stays_and_everyone_waits() -> None:
    before = served_by(ALICE, 4)
    worker = Worker(Fences.decode(before.fences.encode(), "test"), now=before.now + 1)
    assert not worker.serves(ALICE, 4)
    worker.sees(BOB, 3)
    assert code(worker.ask(BOB, request(3))) is RefusalCode.STALE_TERM
    worker.sees(ALICE, 4)
    assert code(worker.ask(ALICE, request(4, is_new=False))) is RefusalCode.NOT_HELD
    worker.sees(BOB, 5)
    # Alice may still use what the former run of this worker gave it.
    assert code(worker.ask(BOB, request(5))) is RefusalCode.BUSY
    worker.sees(CAROL, 1, "host/other")
    assert worker.ask(CAROL, request(1, resource="host/other")) == LeaseGranted(10_000)
    worker.now += LEASE_S
    assert worker.ask(BOB, request(5)) == LeaseGranted(10_000)


def test_what_could_not_be_written_is_not_given() -> None:
    worker = served_by(ALICE, 4)
    worker.now += LEASE_S
    worker.sees(BOB, 5)
    effects = worker.asked(BOB, request(5, lease=2))
    assert Remember() in effects
    worker.grants.handle(worker.now, NotRemembered(lease_id(2)))
    assert not worker.serves(BOB, 5, lease=2)
    # The fence here has risen all the same, and the next grant tries the disk again.
    assert Remember() in worker.asked(BOB, request(5, lease=2))


def test_a_vote_and_work_are_two_leases_behind_one_fence() -> None:
    worker = served_by(ALICE, 4)
    assert worker.ask(ALICE, request(4, lease=7, purpose="vote")) == LeaseGranted(10_000)
    worker.sees(BOB, 5)
    assert code(worker.ask(BOB, request(5, lease=8, purpose="vote"))) is RefusalCode.BUSY
    assert not worker.serves(ALICE, 4)
    assert not worker.serves(ALICE, 4, lease=7)


def test_there_is_room_for_work_where_its_owner_says_so_and_votes_take_none() -> None:
    full = LeaseRefused(RefusalCode.NO_ROOM, "24 GiB are taken")
    asked: list[tuple[NodeId, LeaseRequest]] = []

    def room(host: NodeId, wanted: LeaseRequest) -> LeaseRefused | None:
        asked.append((host, wanted))
        return full

    worker = Worker()
    worker.grants = Grants(worker.fences, worker.now, room)
    worker.sees(ALICE, 4)
    assert worker.ask(ALICE, request(4)) == full
    assert MODEL not in worker.fences
    assert worker.ask(ALICE, request(4, lease=2, purpose="vote")) == LeaseGranted(10_000)
    assert asked == [(ALICE, request(4))]


def test_one_host_takes_its_share_and_no_more() -> None:
    worker = Worker()
    hosts = [NodeId(bytes([number]) * 32) for number in range(3)]
    granted = 0
    for number in range(3 * MAX_LEASES_PER_HOST):
        host, resource = hosts[number // MAX_LEASES_PER_HOST], f"host/{number}"
        worker.sees(host, 1, resource)
        granted += isinstance(worker.ask(host, request(1, number, resource=resource)), LeaseGranted)
    assert granted == MAX_LEASES
    worker = Worker()
    for number in range(MAX_LEASES_PER_HOST + 1):
        worker.sees(ALICE, 1, f"host/{number}")
        last = worker.ask(ALICE, request(1, number, resource=f"host/{number}"))
    assert code(last) is RefusalCode.NO_ROOM


def test_an_absurd_leap_of_terms_is_no_claim() -> None:
    worker = Worker()
    worker.sees(ALICE, MAX_TERM_LEAP + 1)
    assert code(worker.ask(ALICE, request(MAX_TERM_LEAP + 1))) is RefusalCode.NOT_CLAIMED
    worker.sees(ALICE, MAX_TERM_LEAP)
    assert isinstance(worker.ask(ALICE, request(MAX_TERM_LEAP)), LeaseGranted)


# The fences themselves


def test_fences_come_back_as_they_were() -> None:
    fences = Fences(floor=3)
    fences.raise_to("host/a", 7, ALICE)
    fences.raise_to("host/b", 4, BOB)
    again = Fences.decode(fences.encode(), "test")
    assert (again.get("host/a"), again.get("host/b"), again.floor) == (Fence(7, ALICE), Fence(4, BOB), 3)
    assert again.encode() == fences.encode()


def test_a_fence_never_goes_down() -> None:
    fences = Fences()
    fences.raise_to(MODEL, 7, ALICE)
    for term, host in ((6, ALICE), (7, BOB)):
        with pytest.raises(ValueError, match="stands at term 7"):
            fences.raise_to(MODEL, term, host)
    assert not fences.raise_to(MODEL, 7, ALICE)
    assert fences.raise_to(MODEL, 8, BOB)


def test_more_resources_than_there_is_room_for_are_rounded_up_not_forgotten() -> None:
    fences = Fences(entries=[FenceEntry(f"host/{number}", 10 + number, ALICE) for number in range(MAX_FENCES)])
    fences.raise_to("host/new", 1, BOB, in_use={"host/0"})
    assert len(fences) == MAX_FENCES and "host/0" in fences and "host/1" not in fences
    assert fences.floor == 11
    assert not fences.get("host/1").admits(11, ALICE) and fences.get("host/1").admits(12, BOB)
    assert fences.get("host/never heard of").term == 11
    assert fences.get("host/new") == Fence(1, BOB)


def test_memory_is_asked_for_and_kept() -> None:
    worker = Worker()
    worker.sees(ALICE, 1)
    worker.ask(ALICE, LeaseRequest(MODEL, 1, lease_id(1), True, "work", 3 * GIB))
    (grant,) = worker.grants.grants(worker.now)
    assert grant.memory_bytes == 3 * GIB


def test_a_vote_that_another_may_be_using_is_not_ones_own_until_its_time_is_over() -> None:
    worker = Worker()
    assert worker.grants.has_own_vote(worker.now, MODEL)
    worker.sees(ALICE, 4)
    assert worker.ask(ALICE, request(4, purpose="vote")) == LeaseGranted(10_000)
    assert not worker.grants.has_own_vote(worker.now, MODEL)
    # A higher term ends the lease, but its host may not have heard of that.
    worker.sees(BOB, 5)
    assert code(worker.ask(BOB, request(5, 2, purpose="vote"))) is RefusalCode.BUSY
    assert not worker.grants.has_own_vote(worker.now + LEASE_S - 0.001, MODEL)
    assert worker.grants.has_own_vote(worker.now + LEASE_S, MODEL)


def test_a_worker_that_has_just_started_does_not_know_whose_its_vote_is() -> None:
    fences = Fences()
    fences.raise_to(MODEL, 3, ALICE)
    grants = Grants(fences, 100.0)
    assert not grants.has_own_vote(100.0 + LEASE_S - 0.001, MODEL)
    assert grants.has_own_vote(100.0 + LEASE_S, MODEL)


def test_a_lease_to_work_leaves_the_vote_alone() -> None:
    assert served_by(ALICE, 4).grants.has_own_vote(101.0, MODEL)
