"""When a host asks for a lease, and until when it may use one."""

from __future__ import annotations

import itertools

import pytest

from gossip.fence import Fences
from gossip.grant import Answer, Asked, Grants
from gossip.lease import Claim
from gossip.lease_message import (
    LEASE_S,
    RENEW_S,
    LeaseGranted,
    LeaseRefused,
    LeaseReleased,
    LeaseRequest,
    RefusalCode,
    Reply,
)
from gossip.tenure import (
    ASK_S,
    LED_RETRY_S,
    NO_ROOM_RETRY_S,
    RETRY_S,
    Answered,
    Ask,
    Effect,
    Failed,
    Gained,
    Hold,
    LetGo,
    Lost,
    Stale,
    Tenure,
    Tick,
)
from tests.gossip.leases import ALICE, BOB, GIB, MODEL, WORKER
from transport.interface import NodeId

GRANTED = LeaseGranted(10_000)
USABLE_S = 8.0


class Host:
    """Alice's decider, with a clock that the test sets."""

    def __init__(self) -> None:
        ids = itertools.count(1)
        self.tenure = Tenure(lambda size: next(ids).to_bytes(size, "big"))
        self.now = 1000.0

    def hold(self, term: int, *workers: NodeId, after_s: float = 0.0) -> list[Effect]:
        wanted = dict.fromkeys(workers, 3 * GIB)
        return self.tenure.handle(self.now, Hold(MODEL, "work", term, wanted, after_s))

    def tick(self, seconds: float = 0.0) -> list[Effect]:
        self.now += seconds
        return self.tenure.handle(self.now, Tick())

    def answered(self, ask: Ask, reply: Reply) -> list[Effect]:
        return self.tenure.handle(self.now, Answered(ask.number, reply))

    @property
    def may_use(self) -> bool:
        return WORKER in self.tenure.leases(self.now, MODEL)


def the_ask(effects: list[Effect]) -> Ask:
    (ask,) = [effect for effect in effects if isinstance(effect, Ask)]
    return ask


def holding() -> Host:
    """A host that has just got a lease in term 4, without any delay."""
    host = Host()
    host.answered(the_ask(host.hold(4, WORKER)), GRANTED)
    assert host.may_use
    return host


def refusal(code: RefusalCode, term: int = 0, retry_ms: int = 0) -> LeaseRefused:
    return LeaseRefused(code, "", term, retry_ms)


def test_it_asks_at_once_with_an_id_of_its_own() -> None:
    host = Host()
    ask = the_ask(host.hold(4, WORKER))
    assert ask.worker == WORKER
    assert ask.request == LeaseRequest(MODEL, 4, (1).to_bytes(16, "big"), True, "work", 3 * GIB)
    assert host.hold(4, WORKER) == []


def test_a_lease_may_be_used_from_its_grant_until_eight_seconds_after_it_was_asked_for() -> None:
    host = Host()
    ask = the_ask(host.hold(4, WORKER))
    host.now += 1.5
    (gained,) = host.answered(ask, GRANTED)
    assert isinstance(gained, Gained) and gained.lease.usable_until == 1000 + USABLE_S
    host.now = 1000 + USABLE_S - 0.001
    assert host.may_use
    host.now = 1000 + USABLE_S
    assert not host.may_use


def test_it_renews_every_three_seconds_from_question_to_question() -> None:
    host = holding()
    for _ in range(5):
        assert host.tenure.next_deadline == host.now + RENEW_S
        ask = the_ask(host.tick(RENEW_S))
        assert not ask.request.is_new and ask.request.lease == (1).to_bytes(16, "big")
        assert host.answered(ask, GRANTED) == []
    assert host.may_use


def test_a_question_without_an_answer_is_put_again_and_the_lease_lasts_so_long() -> None:
    host = holding()
    host.tick(RENEW_S)
    assert host.tick(ASK_S) == []
    ask = the_ask(host.tick(RETRY_S))
    assert host.may_use
    assert host.answered(ask, GRANTED) == []
    host.now = 1000 + RENEW_S + ASK_S + RETRY_S + USABLE_S - 0.01
    assert host.may_use


def test_a_host_that_was_paused_for_more_than_eight_seconds_stops_by_itself() -> None:
    host = holding()
    ask = the_ask(host.tick(RENEW_S))
    host.now += 5.5
    # The answer to what it asked before the pause is the first that it sees. It would do for three seconds more.
    effects = host.answered(ask, GRANTED)
    assert [type(effect) for effect in effects] == [Lost, LetGo, Ask]
    assert not host.may_use
    again = the_ask(effects)
    assert again.request.is_new and again.request.lease != ask.request.lease
    host.answered(again, GRANTED)
    assert host.may_use


def test_an_answer_that_comes_after_its_lease_has_run_out_brings_nothing() -> None:
    host = Host()
    ask = the_ask(host.hold(4, WORKER))
    host.now += USABLE_S
    assert not [effect for effect in host.answered(ask, GRANTED) if isinstance(effect, Gained)]
    assert not host.may_use


def test_answers_that_come_late_or_twice_change_nothing() -> None:
    host = Host()
    first = the_ask(host.hold(4, WORKER))
    host.tick(ASK_S)
    second = the_ask(host.tick(RETRY_S))
    assert second.request == first.request
    assert [type(effect) for effect in host.answered(second, GRANTED)] == [Gained]
    assert host.answered(first, refusal(RefusalCode.STALE_TERM, 9)) == []
    assert host.answered(second, refusal(RefusalCode.NOT_HELD)) == []
    assert host.tenure.handle(host.now, Failed(first.number, "reset")) == []
    assert host.may_use


def test_a_stale_term_ends_the_lease_and_asks_for_no_other_in_it() -> None:
    host = holding()
    effects = host.answered(the_ask(host.tick(RENEW_S)), refusal(RefusalCode.STALE_TERM, 6))
    assert [type(effect) for effect in effects] == [Lost, LetGo, Stale]
    assert effects[-1] == Stale(MODEL, 6)
    assert host.tick(60) == [] and host.tenure.next_deadline == float("inf")

    ask = the_ask(host.hold(7, WORKER))
    assert (ask.request.term, ask.request.is_new) == (7, True)


def test_a_stale_term_with_somebody_who_leads_is_no_reason_to_claim_anew_and_is_asked_again() -> None:
    host = holding()
    led = LeaseRefused(RefusalCode.STALE_TERM, "", 6, is_led=True)
    effects = host.answered(the_ask(host.tick(RENEW_S)), led)
    assert [type(effect) for effect in effects] == [Lost, LetGo]
    # Until the claim above is heard of, or the one who led is seen no more by the worker either.
    again = the_ask(host.tick(LED_RETRY_S))
    assert again.request.is_new
    assert host.answered(again, refusal(RefusalCode.STALE_TERM, 6)) == [Stale(MODEL, 6)]


def test_a_lease_that_the_worker_does_not_hold_is_lost_and_asked_for_anew() -> None:
    host = holding()
    effects = host.answered(the_ask(host.tick(RENEW_S)), refusal(RefusalCode.NOT_HELD))
    assert [type(effect) for effect in effects] == [Lost, LetGo]
    assert the_ask(host.tick(RETRY_S)).request.is_new


@pytest.mark.parametrize(
    ("refused", "wait_s"),
    [
        (refusal(RefusalCode.NOT_CLAIMED), RETRY_S),
        (refusal(RefusalCode.BUSY), RETRY_S),
        (refusal(RefusalCode.BUSY, retry_ms=9000), 1.0),
        (refusal(RefusalCode.NO_ROOM), NO_ROOM_RETRY_S),
        (LeaseReleased(), RETRY_S),
    ],
)
def test_other_refusals_are_asked_again_and_take_no_lease_away(refused: Reply, wait_s: float) -> None:
    host = holding()
    assert host.answered(the_ask(host.tick(RENEW_S)), refused) == []
    assert host.may_use
    assert host.tenure.next_deadline == pytest.approx(host.now + wait_s)


def test_what_is_not_wanted_any_more_is_let_go_also_when_it_was_only_asked_for() -> None:
    host = holding()
    host.hold(4, WORKER, BOB)
    effects = host.hold(4)
    assert [type(effect) for effect in effects] == [Lost, LetGo, LetGo]
    assert [effect.worker for effect in effects if isinstance(effect, LetGo)] == [WORKER, BOB]
    assert host.tenure.next_deadline == float("inf")


def test_a_higher_term_of_its_own_ends_what_it_held_in_the_lower() -> None:
    host = holding()
    lost, let_go, ask = host.hold(5, WORKER)
    assert isinstance(lost, Lost) and isinstance(let_go, LetGo) and isinstance(ask, Ask)
    assert ask.request.term == 5 and ask.request.lease != let_go.release.lease


def test_a_successor_waits_while_its_predecessor_drains() -> None:
    host = Host()
    assert host.hold(4, WORKER, after_s=30.0) == []
    assert host.hold(4, WORKER) == []
    assert host.tick(29.9) == []
    the_ask(host.tick(0.1))


def test_why_a_worker_gave_none_can_be_read() -> None:
    host = Host()
    host.answered(the_ask(host.hold(4, WORKER)), LeaseRefused(RefusalCode.NO_ROOM, "24 GiB are taken"))
    assert host.tenure.refusals(MODEL) == {WORKER: "no_room: 24 GiB are taken"}


def test_a_worker_that_grants_for_a_moment_is_not_asked_in_a_circle() -> None:
    host = Host()
    host.answered(the_ask(host.hold(4, WORKER)), LeaseGranted(1000))
    assert host.tenure.next_deadline == pytest.approx(host.now + 0.4)


# Both ends, each on its own clock


class Pair:
    """A host that asked at true time 0, and its worker, whose clocks run at their own rates."""

    def __init__(self, host_rate: float, worker_rate: float) -> None:
        self.host_rate, self.worker_rate = host_rate, worker_rate
        self.tenure = Tenure(lambda size: bytes(size))
        self.grants = Grants(Fences(), 0.0)

    def ask_and_answer(self, question_s: float, answer_s: float) -> None:
        """One question that takes its time on both ways. True seconds."""
        effects = self.tenure.handle(0.0, Hold(MODEL, "work", 1, {WORKER: 0}))
        ask = the_ask(effects)
        claim = Claim(MODEL, 1, GIB, ALICE)
        answered = self.grants.handle(question_s * self.worker_rate, Asked(ALICE, 1, ask.request, claim))
        (reply,) = [effect.reply for effect in answered if isinstance(effect, Answer)]
        self.tenure.handle((question_s + answer_s) * self.host_rate, Answered(ask.number, reply))

    def host_uses_it(self, true: float) -> bool:
        return WORKER in self.tenure.leases(true * self.host_rate, MODEL)

    def worker_grants_another(self, true: float) -> bool:
        claim = Claim(MODEL, 2, GIB, BOB)
        request = LeaseRequest(MODEL, 2, b"b" * 16, True)
        effects = self.grants.handle(true * self.worker_rate, Asked(BOB, 1, request, claim))
        return any(isinstance(effect, Answer) and effect.reply == GRANTED for effect in effects)


@pytest.mark.parametrize(("host_rate", "worker_rate"), [(0.9, 1.1), (1.0, 1.24), (0.81, 1.0), (1.1, 0.9)])
@pytest.mark.parametrize(("question_s", "answer_s"), [(0.0, 0.0), (0.0, 1.7), (1.7, 0.0)])
def test_no_two_hosts_use_a_worker_while_clocks_differ_by_less_than_a_quarter(
    host_rate: float, worker_rate: float, question_s: float, answer_s: float
) -> None:
    for step in range(180, 1400):
        pair = Pair(host_rate, worker_rate)
        pair.ask_and_answer(question_s, answer_s)
        true = step / 100
        assert not (pair.worker_grants_another(true) and pair.host_uses_it(true)), f"both at {true} s"
    assert pair.worker_grants_another(14.0 + LEASE_S / worker_rate)
