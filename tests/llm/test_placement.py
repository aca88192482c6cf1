"""Who is asked first, and what is said when nobody can be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.belief import Believe
from gossip.view import NodeView, Status
from llm.errors import NoHost, UnknownModel
from llm.placement import Experience, rank
from tests.llm.views import FILE_A, FILE_B, node, node_id, offer, view
from transport.interface import NodeId, Role


def names(*nodes: NodeView, experience: Experience | None = None) -> list[str]:
    return [choice.node_name for choice in rank("tiny", view(*nodes), experience=experience or Experience())]


def believing(shares: dict[NodeId, float]) -> Believe:
    return lambda node: shares.get(node, 1.0)


def test_here_first_when_load_is_equal() -> None:
    assert names(node(9, [offer()], rtt_ms=None), node(1, [offer()], rtt_ms=0.1)) == ["n9", "n1"]


def test_less_load_per_slot_before_here() -> None:
    assert names(node(1, [offer(in_flight=2, slots=4)]), node(2, [offer(in_flight=3, slots=8)])) == ["n2", "n1"]


def test_lower_round_trip_then_lower_id_between_equals() -> None:
    far, near, twin = node(2, [offer()], rtt_ms=20.0), node(4, [offer()], rtt_ms=5.0), node(3, [offer()], rtt_ms=5.0)
    assert names(node(1), far, near, twin) == ["n3", "n4", "n2"]


def test_our_own_requests_count_before_gossip_brings_them_back() -> None:
    busy = Experience(busy={node_id(2): 3})
    assert names(node(1), node(2, [offer()]), node(3, [offer(in_flight=1)]), experience=busy) == ["n3", "n2"]


def test_who_has_read_the_beginning_comes_first_while_it_has_a_slot() -> None:
    holder = Experience(holder=node_id(2))
    busy, idle = node(2, [offer(in_flight=3, slots=4)]), node(1, [offer(in_flight=0, slots=4)])
    assert names(idle, busy, experience=holder) == ["n2", "n1"]
    full = node(2, [offer(in_flight=4, slots=4)])
    assert names(idle, full, experience=holder) == ["n1", "n2"]


@pytest.mark.parametrize("ailing", [{"status": Status.SUSPECT}, {"linked": False, "rtt_ms": None}])
def test_health_comes_before_a_read_beginning(ailing: dict[str, Any]) -> None:
    assert names(
        node(1), node(2, [offer()], **ailing), node(3, [offer()]), experience=Experience(holder=node_id(2))
    ) == [
        "n3",
        "n2",
    ]


def test_what_is_in_memory_before_what_is_on_its_way_before_what_is_not() -> None:
    order = [node(number, [offer(state=state)]) for number, state in ((2, "unloaded"), (3, "loading"), (4, "ready"))]
    assert names(node(1), *order) == ["n4", "n3", "n2"]


def test_suspects_the_unlinked_and_the_failed_come_last() -> None:
    suspect = node(2, [offer()], status=Status.SUSPECT)
    unlinked = node(3, [offer()], linked=False, rtt_ms=None)
    failed = node(4, [offer()])
    busy = node(5, [offer(in_flight=4)], rtt_ms=90.0)
    experience = Experience(failed={node_id(4)})
    assert names(node(1), suspect, unlinked, failed, busy, experience=experience) == ["n5", "n3", "n2", "n4"]


def test_only_the_ready_and_usable_are_asked() -> None:
    hosts = [
        node(2, [offer(state="waiting")]),
        node(3, [offer(state="failed")]),
        node(4, [offer()], status=Status.DEAD),
        node(5, [offer()], role=Role.CLIENT),
        node(6, [offer()]),
    ]
    assert names(node(1), *hosts) == ["n6"]


def test_each_choice_has_its_reason_and_the_file() -> None:
    (choice,) = rank("tiny", view(node(1), node(2, [offer(in_flight=1)], rtt_ms=12.0)))
    assert choice.reason == "ready, 1 in flight on 4 slots, 12.0 ms away"
    assert choice.identity == FILE_A
    assert not choice.is_local


def test_unknown_model_lists_what_there_is() -> None:
    with pytest.raises(UnknownModel, match="there are: one, two") as failure:
        rank("three", view(node(1, [offer("two")]), node(2, [offer("one")])))
    assert failure.value.known == ("one", "two")


def test_no_host_says_why_for_each() -> None:
    hosts = [
        node(2, [offer(state="waiting", reason="2.0 GB are missing")]),
        node(3, [offer()], status=Status.DEAD),
        node(4, [offer()]),
    ]
    with pytest.raises(NoHost) as failure:
        rank("tiny", view(node(1), *hosts), experience=Experience(left_out={node_id(4): "it said nothing"}))
    message = str(failure.value)
    assert "n2" in message
    assert "waiting: 2.0 GB are missing" in message
    assert "the node is dead" in message
    assert "it said nothing" in message


def test_a_ranking_never_mixes_two_files_of_one_name() -> None:
    mesh = view(node(1, [offer(fingerprint=FILE_B)]), node(2, [offer()]), node(3, [offer()]))
    assert [choice.node_name for choice in rank("tiny", mesh)] == ["n2", "n3"]
    assert [choice.node_name for choice in rank("tiny@bbbbbbbb", mesh)] == ["n1"]


HOSTS = st.lists(
    st.tuples(
        st.integers(2, 200),
        st.sampled_from([FILE_A, FILE_B]),
        st.sampled_from(["ready", "waiting", "failed"]),
        st.integers(0, 9),
        st.sampled_from(list(Status)),
        st.floats(0, 100) | st.none(),
    ),
    unique_by=lambda host: host[0],
    max_size=8,
)


@given(HOSTS, st.randoms())
def test_every_ranking_is_of_one_file_and_the_same_in_whatever_order_nodes_are_known(hosts, dice) -> None:  # type: ignore[no-untyped-def]
    nodes = [
        node(number, [offer(fingerprint=file, state=state, in_flight=busy)], status=status, rtt_ms=rtt)
        for number, file, state, busy, status, rtt in hosts
    ]
    shuffled = dice.sample(nodes, len(nodes))
    try:
        ranked = rank("tiny", view(node(1), *nodes))
    except (UnknownModel, NoHost) as error:
        with pytest.raises(type(error)):
            rank("tiny", view(node(1), *shuffled))
        return
    assert len({choice.offer.fingerprint for choice in ranked}) == 1
    assert all(choice.offer.state == "ready" for choice in ranked)
    assert ranked == rank("tiny", view(node(1), *shuffled))


def test_who_is_not_believed_is_not_asked_and_who_is_believed_half_counts_as_twice_as_busy() -> None:
    doubted, other = node(2, [offer(in_flight=1)], rtt_ms=1.0), node(3, [offer(in_flight=1)], rtt_ms=9.0)
    assert names(node(1), doubted, other) == ["n2", "n3"]
    for share, order in ((0.5, ["n3", "n2"]), (0.0, ["n3"])):
        experience = Experience(believe=believing({node_id(2): share}))
        assert names(node(1), doubted, other, experience=experience) == order
    with pytest.raises(NoHost, match="not believed"):
        names(node(1), doubted, experience=Experience(believe=lambda node: 0.0))
