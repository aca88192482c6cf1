"""Many engines together, by call and by seed: they find each other, notice deaths, and slander nobody."""

from __future__ import annotations

import pytest

from gossip.event import Disconnected, LocalUpdate, Tick
from gossip.view import Status
from tests.gossip.cluster import Cluster
from transport.interface import MAX_DATAGRAM_BYTES, NodeId, Role

SEEDS = range(1, 6)


@pytest.fixture(autouse=True)
def seed_shown(request: pytest.FixtureRequest) -> None:
    """Print the seed, so that a failure says how to replay it."""
    callspec = getattr(request.node, "callspec", None)
    print(f"parameters {callspec.params if callspec else {}}")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_members_converge_on_one_picture(seed: int, loss: float) -> None:
    cluster = Cluster(seed, loss=loss)
    nodes = cluster.mesh(5)
    cluster.run_until(lambda: cluster.is_converged(nodes), 20.0)
    assert all(len(cluster.nodes[one].links) == 4 for one in nodes)
    assert cluster.largest_datagram <= MAX_DATAGRAM_BYTES


@pytest.mark.parametrize(("count", "bound_s"), [(2, 9.0), (3, 9.0), (5, 9.0), (10, 11.0), (30, 11.0)])
@pytest.mark.parametrize("loss", [0.0, 0.2])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_silent_death_is_known_to_all_in_time(seed: int, loss: float, count: int, bound_s: float) -> None:
    cluster = Cluster(seed, loss=loss)
    nodes = cluster.mesh(count)
    cluster.run_until(lambda: cluster.is_converged(nodes), 30.0)
    cluster.run(seed * 0.37)
    cluster.kill(nodes[-1])
    rest = nodes[:-1]
    cluster.run_until(lambda: cluster.all_see(rest, nodes[-1], Status.DEAD), bound_s)
    assert all(cluster.all_see(rest, one, Status.ALIVE) for one in rest)


def test_a_death_that_closes_connections_is_known_sooner() -> None:
    cluster = Cluster(4)
    nodes = cluster.mesh(5)
    cluster.run(10.0)
    cluster.kill(nodes[-1])
    rest = nodes[:-1]
    for one in rest:
        cluster.nodes[one].links.pop(nodes[-1])
        cluster.tell(one, Disconnected(nodes[-1], "port unreachable", False))
    assert cluster.run_until(lambda: cluster.all_see(rest, nodes[-1], Status.DEAD), 5.0) <= 4.5


@pytest.mark.parametrize("loss", [0.05, 0.2])
def test_nobody_is_slandered_in_ten_minutes_of_loss(loss: float) -> None:
    cluster = Cluster(11, loss=loss, delay_s=0.02)
    nodes = cluster.mesh(5)
    cluster.run_until(lambda: cluster.is_converged(nodes), 20.0)
    for _ in range(120):
        cluster.run(5.0)
        assert all(cluster.status(one, other) is not Status.DEAD for one in nodes for other in nodes)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_partition_heals_into_one_picture(seed: int) -> None:
    cluster = Cluster(seed)
    nodes = cluster.mesh(6)
    left, right = nodes[:3], nodes[3:]
    cluster.part(left, right)
    for one, other in ((left, right), (right, left)):
        cluster.run_until(
            lambda one=one, other=other: all(cluster.all_see(one, gone, Status.DEAD) for gone in other),  # type: ignore[misc]
            20.0,
        )
    cluster.tell(left[0], LocalUpdate("load", b"left"))
    cluster.tell(right[0], LocalUpdate("load", b"right"))
    cluster.heal()
    assert cluster.run_until(lambda: cluster.is_converged(nodes), 15.0) <= 15.0


def test_a_one_way_partition_kills_nobody() -> None:
    cluster = Cluster(5)
    nodes = cluster.mesh(5)
    cluster.blocked[nodes[1], nodes[2]] = True
    cluster.run(120.0)
    assert all(cluster.status(one, other) is Status.ALIVE for one in nodes for other in nodes)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_restart_with_a_higher_boot_is_alive_again_with_new_facts(seed: int) -> None:
    cluster = Cluster(seed)
    nodes = cluster.mesh(5)
    cluster.kill(nodes[4])
    cluster.run(15.0)
    # No introducer: it dials whom its address book names.
    cluster.start("node4", boot=2)
    cluster.tell(nodes[4], LocalUpdate("load", b"second life"))
    cluster.run_until(lambda: cluster.is_converged(nodes), 15.0)
    assert cluster.seen(nodes[0], nodes[4]).boot == 2
    assert cluster.seen(nodes[0], nodes[4]).facts["load"] == b"second life"


def test_a_restart_that_lost_its_boot_is_told_by_the_others() -> None:
    cluster = Cluster(3)
    first = cluster.start("node0")
    other = cluster.start("node1", introducer=first, boot=7)
    cluster.run(5.0)
    cluster.kill(other)
    cluster.run(15.0)
    cluster.start("node1", introducer=first, boot=1)
    cluster.run_until(lambda: cluster.is_converged([first, other]), 10.0)
    assert cluster.seen(first, other).boot == 8
    assert cluster.nodes[other].raised_boot == 8


def test_one_who_leaves_has_left_and_is_not_suspected() -> None:
    cluster = Cluster(2)
    nodes = cluster.mesh(5)
    cluster.shut_down(nodes[2])
    rest = [one for one in nodes if one != nodes[2]]
    assert cluster.all_see(rest, nodes[2], Status.LEFT)
    cluster.run(30.0)
    assert cluster.all_see(rest, nodes[2], Status.LEFT)
    cluster.start("node2", introducer=nodes[0], boot=2)
    cluster.run_until(lambda: cluster.is_converged(nodes), 10.0)


def test_the_founder_may_be_gone_when_all_restart() -> None:
    cluster = Cluster(6)
    nodes = cluster.mesh(5)
    cluster.run(2.0)
    for one in nodes:
        cluster.kill(one)
    cluster.run(5.0)
    for index in range(1, 5):
        cluster.start(f"node{index}", boot=2)
    assert cluster.run_until(lambda: cluster.is_converged(nodes[1:]), 10.0) <= 10.0


def test_all_may_leave_one_after_another_and_find_each_other_again() -> None:
    cluster = Cluster(13)
    nodes = cluster.mesh(4)
    cluster.run(2.0)
    for one in nodes:
        cluster.shut_down(one)
    for index in range(1, 4):
        cluster.start(f"node{index}", boot=2)
    assert cluster.run_until(lambda: cluster.is_converged(nodes[1:]), 10.0) <= 10.0


def test_a_paused_node_comes_back_and_has_slandered_nobody() -> None:
    cluster = Cluster(7)
    nodes = cluster.mesh(5)
    cluster.run(5.0)
    stopped = cluster.nodes[nodes[1]]
    stopped.is_up = False
    cluster.run(10.0)
    stopped.is_up = True
    cluster.tell(nodes[1], Tick())
    assert stopped.engine.health == 8
    cluster.run_until(lambda: cluster.is_converged(nodes), 20.0)
    assert all(cluster.seen(nodes[0], one).incarnation == 0 for one in nodes if one != nodes[1])


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_a_fact_reaches_everyone_within_a_second_and_a_large_one_soon_after(loss: float) -> None:
    cluster = Cluster(8, loss=loss)
    nodes = cluster.mesh(10)
    cluster.run_until(lambda: cluster.is_converged(nodes), 20.0)

    def known(key: str, value: bytes) -> bool:
        return all(cluster.seen(one, nodes[3]).facts.get(key) == value for one in nodes)

    cluster.tell(nodes[3], LocalUpdate("models", b"small"))
    assert cluster.run_until(lambda: known("models", b"small"), 5.0) <= 1.5
    large = b"x" * 60_000
    cluster.tell(nodes[3], LocalUpdate("catalogue", large))
    assert cluster.run_until(lambda: known("catalogue", large), 10.0) <= 5.0


def test_a_client_sees_the_members_and_their_facts_and_only_its_peers_see_it() -> None:
    cluster = Cluster(9)
    nodes = cluster.mesh(4)
    client = cluster.start("laptop", introducer=nodes[0], role=Role.CLIENT)
    cluster.run(2.5)
    assert {entry.node for entry in cluster.view(client).nodes} == {client, *nodes}
    assert all(cluster.seen(client, one).facts["sys"] for one in nodes)
    assert all(cluster.seen(one, client).role is Role.CLIENT for one in nodes)
    cluster.tell(nodes[2], LocalUpdate("models", b"new"))
    cluster.run_until(lambda: cluster.seen(client, nodes[2]).facts.get("models") == b"new", 4.0)
    cluster.kill(nodes[0])
    cluster.run_until(lambda: cluster.status(client, nodes[0]) is Status.DEAD, 12.0)
    cluster.start("node0", boot=2)
    cluster.run_until(lambda: cluster.status(client, nodes[0]) is Status.ALIVE, 10.0)


def test_a_client_is_never_suspected_however_silent() -> None:
    cluster = Cluster(10)
    nodes = cluster.mesh(3)
    client = cluster.start("laptop", introducer=nodes[0], role=Role.CLIENT)
    cluster.run(5.0)
    cluster.kill(client)
    cluster.run(60.0)
    assert all(cluster.status(one, client) is Status.ALIVE for one in nodes)


def test_the_log_tells_each_change_once(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster(12)
    nodes = cluster.mesh(3)
    with caplog.at_level("INFO", "meshd.gossip"):
        cluster.kill(nodes[2])
        cluster.run(20.0)
    told = [record.message for record in caplog.records]
    assert len([line for line in told if line.startswith("node2 (") and "counts as dead" in line]) == 2
    assert len([line for line in told if "does not answer" in line]) == 2


def history(seed: int) -> list[object]:
    """Everything that a run of a small mesh with loss and a death comes to."""
    cluster = Cluster(seed, loss=0.2)
    nodes = cluster.mesh(6)
    cluster.kill(nodes[2])
    cluster.run(20.0)
    return [cluster.datagrams, [(cluster.nodes[one].bytes_sent, picture(cluster, one)) for one in nodes]]


def picture(cluster: Cluster, node: NodeId) -> list[object]:
    return [(entry.name, entry.status, entry.incarnation, entry.known_for_s) for entry in cluster.view(node).nodes]


def test_one_seed_is_one_history() -> None:
    assert history(21) == history(21)
    assert history(21) != history(22)


def test_a_quiet_mesh_is_quiet() -> None:
    cluster = Cluster(1)
    nodes = cluster.mesh(10)
    cluster.run(30.0)
    before = sum(node.bytes_sent for node in cluster.nodes.values())
    cluster.run(60.0)
    spent = sum(node.bytes_sent for node in cluster.nodes.values()) - before
    assert spent / 60 / len(nodes) < 1000
