"""The state table, row by row."""

from __future__ import annotations

from itertools import permutations

import pytest

from gossip.member import MemberRecord, Standing
from gossip.message import MAX_MEMBERS, Accusation
from gossip.roster import Roster, Verdict
from gossip.timing import LAN
from gossip.view import Status
from transport.interface import NodeId, Role

ME, ALICE, BOB, CAROL = (NodeId(bytes([letter]) * 32) for letter in b"mabc")


def record(node: NodeId, boot: int = 1, incarnation: int = 0, *, has_left: bool = False) -> MemberRecord:
    return MemberRecord(node, b"", Role.MEMBER, b"", boot, incarnation, has_left, "", (), 1, b"")


def roster(role: Role = Role.MEMBER, others: tuple[NodeId, ...] = (ALICE, BOB, CAROL)) -> Roster:
    def reseal(boot: int, incarnation: int, *, has_left: bool = False) -> MemberRecord:
        return MemberRecord(ME, b"", role, b"", boot, incarnation, has_left, "", (), 1, b"")

    made = Roster(5, LAN, reseal, 0.0)
    for other in others:
        assert made.learn(record(other), 0.0) is Verdict.CHANGED
    return made


def accusation(
    subject: NodeId, accuser: NodeId = BOB, *, boot: int = 1, incarnation: int = 0, dead: bool = False
) -> Accusation:
    return Accusation(subject, boot, incarnation, dead, accuser)


def status(one: Roster, node: NodeId) -> Status:
    return one.entry(node).status


def test_alive_when_accused_becomes_suspect_and_the_clock_starts() -> None:
    one = roster()
    assert one.accuse(accusation(ALICE), 10.0) is Verdict.CHANGED
    assert status(one, ALICE) is Status.SUSPECT
    # Four nodes: one further accuser is needed, so the first alone means the longest wait.
    assert one.next_deadline == pytest.approx(10.0 + 18.0)


def test_another_accuser_shortens_the_clock_and_is_passed_on() -> None:
    one = roster()
    one.accuse(accusation(ALICE, BOB), 10.0)
    assert one.accuse(accusation(ALICE, CAROL), 11.0) is Verdict.CONFIRMED
    assert one.next_deadline == pytest.approx(13.0)
    assert one.accuse(accusation(ALICE, CAROL), 11.0) is Verdict.STALE


def test_a_failed_request_before_the_failed_probe_counts_as_an_accuser() -> None:
    one = roster()
    one.accuse(accusation(ALICE, ME), 10.0, hinted_at=9.4)
    assert one.next_deadline == pytest.approx(12.4)


def test_a_hint_puts_the_clock_back_by_no_more_than_a_probe_takes() -> None:
    one = roster()
    one.accuse(accusation(ALICE, ME), 10.0, hinted_at=2.0)
    assert one.next_deadline == pytest.approx(12.0)


def test_suspect_with_a_higher_incarnation_is_alive_again() -> None:
    one = roster()
    one.accuse(accusation(ALICE), 10.0)
    assert one.learn(record(ALICE, 1, 1), 11.0) is Verdict.CHANGED
    assert status(one, ALICE) is Status.ALIVE
    assert one.next_deadline is None


def test_suspect_is_not_cleared_by_the_record_that_was_accused() -> None:
    one = roster()
    one.accuse(accusation(ALICE), 10.0)
    assert one.learn(record(ALICE), 11.0) is Verdict.STALE
    assert status(one, ALICE) is Status.SUSPECT


def test_suspect_whose_clock_runs_out_is_dead_and_counts_no_longer() -> None:
    one = roster()
    one.accuse(accusation(ALICE), 10.0)
    assert one.expire(27.9) == []
    assert [member.node for member in one.expire(28.0)] == [ALICE]
    assert status(one, ALICE) is Status.DEAD
    assert one.entry(ALICE).accuser == ME
    assert one.present == 3


def test_suspect_that_others_found_dead_is_dead() -> None:
    one = roster()
    one.accuse(accusation(ALICE), 10.0)
    assert one.accuse(accusation(ALICE, CAROL, dead=True), 11.5) is Verdict.CHANGED
    assert status(one, ALICE) is Status.DEAD
    assert one.next_deadline is None


def test_a_death_heard_of_too_soon_leaves_the_shortest_wait_to_answer() -> None:
    one = roster()
    one.accuse(accusation(ALICE), 10.0)
    assert one.accuse(accusation(ALICE, CAROL, dead=True), 11.4) is Verdict.CONFIRMED
    assert status(one, ALICE) is Status.SUSPECT
    assert one.next_deadline == pytest.approx(13.0)
    assert one.accuse(accusation(ALICE, CAROL, dead=True), 11.45) is Verdict.STALE


def test_a_death_heard_of_one_held_alive_enters_as_a_suspicion_of_the_shortest_wait() -> None:
    one = roster()
    assert one.accuse(accusation(ALICE, CAROL, dead=True), 10.0) is Verdict.CHANGED
    assert status(one, ALICE) is Status.SUSPECT
    assert one.next_deadline == pytest.approx(13.0)


@pytest.mark.parametrize("before", [Status.ALIVE, Status.SUSPECT, Status.DEAD])
def test_any_state_with_a_signed_farewell_is_left(before: Status) -> None:
    one = roster()
    if before is not Status.ALIVE:
        one.accuse(accusation(ALICE, dead=before is Status.DEAD), 1.0, is_believed=True)
    assert status(one, ALICE) is before
    assert one.learn(record(ALICE, has_left=True), 2.0) is Verdict.CHANGED
    assert status(one, ALICE) is Status.LEFT


@pytest.mark.parametrize("end", [Status.DEAD, Status.LEFT])
@pytest.mark.parametrize("numbers", [(1, 1), (2, 0)])
def test_dead_or_left_with_higher_numbers_is_alive(end: Status, numbers: tuple[int, int]) -> None:
    one = roster()
    if end is Status.DEAD:
        one.accuse(accusation(ALICE, dead=True), 1.0, is_believed=True)
    else:
        one.learn(record(ALICE, has_left=True), 1.0)
    assert status(one, ALICE) is end
    assert one.learn(record(ALICE, *numbers), 5.0) is Verdict.CHANGED
    assert status(one, ALICE) is Status.ALIVE
    assert one.entry(ALICE).known_since == 5.0
    assert one.present == 4


def test_self_accused_refutes_with_a_higher_incarnation() -> None:
    one = roster()
    assert one.accuse(accusation(ME, boot=5), 1.0) is Verdict.REFUTED
    assert one.own.standing == Standing(5, 1, Status.ALIVE)
    assert one.accuse(accusation(ME, boot=5), 1.0) is Verdict.STALE
    assert one.accuse(accusation(ME, boot=5, incarnation=1, dead=True), 1.0) is Verdict.REFUTED
    assert one.own.standing == Standing(5, 2, Status.ALIVE)


@pytest.mark.parametrize("numbers", [(5, 1), (5, 2**52), (6, 0)])
def test_self_cannot_be_pushed_up_by_an_accusation_of_a_life_it_never_had(numbers: tuple[int, int]) -> None:
    one = roster()
    assert one.accuse(accusation(ME, boot=numbers[0], incarnation=numbers[1]), 1.0) is Verdict.UNPROVEN
    assert one.own.standing == Standing(5, 0, Status.ALIVE)


def test_self_shown_its_own_later_life_starts_above_it() -> None:
    one = roster()
    assert one.learn(record(ME, 9, 3), 1.0) is Verdict.REBORN
    assert one.own.standing == Standing(10, 0, Status.ALIVE)


def test_self_shown_its_own_later_incarnation_exceeds_it() -> None:
    one = roster()
    assert one.learn(record(ME, 5, 3), 1.0) is Verdict.REFUTED
    assert one.own.standing == Standing(5, 4, Status.ALIVE)


def test_self_shown_its_own_farewell_starts_a_new_life() -> None:
    one = roster()
    assert one.learn(record(ME, 5, 0, has_left=True), 1.0) is Verdict.REBORN
    assert one.own.standing == Standing(6, 0, Status.ALIVE)


def test_a_replayed_old_record_changes_nothing() -> None:
    one = roster()
    one.learn(record(ALICE, 4, 2), 1.0)
    for old in [record(ALICE, 1, 9), record(ALICE, 4, 1), record(ALICE, 3, 0, has_left=True)]:
        assert one.learn(old, 2.0) is Verdict.STALE
    assert one.entry(ALICE).standing == Standing(4, 2, Status.ALIVE)


def test_an_accusation_of_an_old_life_is_stale() -> None:
    one = roster()
    one.learn(record(ALICE, 2, 1), 1.0)
    for said in [accusation(ALICE), accusation(ALICE, boot=2, incarnation=0, dead=True)]:
        assert one.accuse(said, 2.0) is Verdict.STALE
    assert status(one, ALICE) is Status.ALIVE


def test_an_accusation_of_an_unseen_life_proves_nothing() -> None:
    one = roster()
    for said in [accusation(ALICE, incarnation=1), accusation(NodeId(b"x" * 32)), accusation(ALICE, NodeId(b"x" * 32))]:
        assert one.accuse(said, 2.0) is Verdict.UNPROVEN
    assert status(one, ALICE) is Status.ALIVE


def test_nobody_accuses_itself() -> None:
    assert roster().accuse(accusation(ALICE, ALICE), 1.0) is Verdict.REFUSED


def test_one_who_left_cannot_be_slandered() -> None:
    one = roster()
    one.learn(record(ALICE, has_left=True), 1.0)
    assert one.accuse(accusation(ALICE, dead=True), 2.0) is Verdict.STALE


def test_statements_in_any_order_end_alike() -> None:
    said = [record(ALICE, 1, 1), record(ALICE, 2, 0), record(ALICE, 2, 0, has_left=True), record(ALICE, 1, 7)]
    ends = []
    for order in permutations(said):
        one = roster()
        for statement in order:
            one.learn(statement, 1.0)
        ends.append((one.entry(ALICE).standing, one.present))
    assert set(ends) == {(Standing(2, 0, Status.LEFT), 3)}


def test_the_dead_are_forgotten_after_a_day() -> None:
    one = roster()
    one.accuse(accusation(ALICE, dead=True), 100.0, is_believed=True)
    assert one.forget(100.0 + 24 * 3600 - 1) == []
    assert [member.node for member in one.forget(100.0 + 24 * 3600)] == [ALICE]
    assert one.get(ALICE) is None


def test_a_pause_extends_every_suspicion() -> None:
    one = roster()
    one.accuse(accusation(ALICE), 10.0)
    one.extend_suspicions(30.0)
    assert one.expire(50.0) == []


def test_a_client_runs_no_clock_and_takes_the_word_of_the_member_it_asks() -> None:
    one = roster(Role.CLIENT)
    one.accuse(accusation(ALICE), 1.0)
    assert (status(one, ALICE), one.next_deadline) == (Status.SUSPECT, None)
    one.accuse(accusation(ALICE, dead=True), 2.0)
    assert status(one, ALICE) is Status.DEAD


def test_members_are_bounded() -> None:
    one = roster(others=())
    for index in range(MAX_MEMBERS - 1):
        one.learn(record(NodeId(index.to_bytes(32, "big"))), 0.0)
    assert one.learn(record(ALICE), 0.0) is Verdict.REFUSED
    assert one.get(ALICE) is None
