"""Leases between real hosts and workers: kept, lost, fenced and fought for, in virtual time."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from gossip import lease_service
from gossip.fence import Fence
from gossip.lease import Claim
from gossip.lease_keeper import LeaseKeeper
from gossip.lease_message import (
    LEASE_S,
    PROTOCOL,
    LeaseRefused,
    LeaseRequest,
    RefusalCode,
    lease_text,
    read_reply,
)
from gossip.lease_service import LeaseService
from gossip.tenure import Hold
from tests.gossip.lease_world import VICTOR, WORKER, world
from tests.gossip.leases import ALICE, BOB, GIB, MODEL, lease_id
from transport import wire
from transport.budget import Allowance
from transport.errors import StreamReset
from transport.interface import NodeId, Peer, Role, StreamHeader
from transport.question import ask
from transport.virtual_time import VirtualTimeLoop

loop_factory = VirtualTimeLoop


async def test_a_host_gets_its_lease_and_keeps_it(tmp_path: Path) -> None:
    async with world(tmp_path, ALICE, WORKER) as mesh:
        alice, worker = mesh[ALICE], mesh[WORKER]
        alice.claim(4, WORKER)
        await alice.until_leased(WORKER)
        (lease,) = alice.keeper.leases(MODEL).values()
        for _ in range(60):
            await asyncio.sleep(1)
            assert worker.serves(alice)
        assert alice.keeper.leases(MODEL)[WORKER].lease == lease.lease
        assert worker.book.fences.get(MODEL) == Fence(4, ALICE)
        ((grant, left_s),) = worker.service.grants().items()
        assert (grant.host, grant.memory_bytes) == (ALICE, GIB) and 6 < left_s <= LEASE_S


async def test_a_lease_that_is_let_go_ends_at_both_ends_at_once(tmp_path: Path) -> None:
    async with world(tmp_path, ALICE, WORKER) as mesh:
        alice, worker = mesh[ALICE], mesh[WORKER]
        alice.claim(4, WORKER)
        await alice.until_leased(WORKER)
        async with asyncio.TaskGroup() as group:
            rung = [group.create_task(alice.keeper.changed()), group.create_task(worker.service.changed())]
            await asyncio.sleep(0)
            alice.keeper.hold(Hold(MODEL, "work", 4, {}))
            await asyncio.wait(rung, timeout=1.0)
        assert alice.leases() == set() and worker.service.grants() == {}


async def test_a_host_that_leaves_keeps_nobody_waiting(tmp_path: Path) -> None:
    async with world(tmp_path, ALICE, BOB, WORKER) as mesh:
        alice, bob = mesh[ALICE], mesh[BOB]
        alice.claim(4, WORKER)
        await alice.until_leased(WORKER)
        await alice.keeper.leave(1.0)
        assert alice.leases() == set() and mesh[WORKER].service.grants() == {}
        alice.claim(4, WORKER)
        bob.claim(5, WORKER)
        await bob.until_leased(WORKER, limit_s=1.0)
        assert alice.leases() == set()


async def test_a_host_that_slept_for_more_than_eight_seconds_has_stopped_when_it_wakes(tmp_path: Path) -> None:
    async with world(tmp_path, ALICE, WORKER) as mesh:
        alice, worker = mesh[ALICE], mesh[WORKER]
        alice.claim(4, WORKER)
        await alice.until_leased(WORKER)
        before = alice.keeper.leases(MODEL)[WORKER]
        mesh.skip(8.5)
        assert alice.leases() == set()
        assert len(worker.service.grants()) == 1
        await alice.until_leased(WORKER)
        assert alice.keeper.leases(MODEL)[WORKER].lease != before.lease
        assert worker.serves(alice)


async def test_a_worker_that_sleeps_loses_its_hosts_and_finds_them_again(tmp_path: Path) -> None:
    async with world(tmp_path, ALICE, WORKER) as mesh:
        alice, worker = mesh[ALICE], mesh[WORKER]
        alice.claim(4, WORKER)
        await alice.until_leased(WORKER)
        began = asyncio.get_running_loop().time()
        worker.awake.clear()
        await alice.until_leased()
        assert 4.5 <= asyncio.get_running_loop().time() - began <= 8.1
        await asyncio.sleep(6)
        assert worker.service.grants() == {}
        worker.awake.set()
        await alice.until_leased(WORKER, limit_s=4.0)
        assert worker.serves(alice)


async def test_a_restarted_worker_has_forgotten_leases_and_not_the_fence(tmp_path: Path) -> None:
    async with world(tmp_path, ALICE, BOB, WORKER) as mesh:
        alice, bob, worker = mesh[ALICE], mesh[BOB], mesh[WORKER]
        alice.claim(4, WORKER)
        await alice.until_leased(WORKER)
        worker.start_worker()
        assert not worker.serves(alice)
        alice.claims = []
        bob.claim(3, WORKER)
        await bob.until(lambda: bob.stale == [(MODEL, 4)])
        await alice.until_leased()
        bob.claim(5, WORKER)
        await bob.until_leased(WORKER, limit_s=LEASE_S + 2)
        assert worker.serves(bob)


async def test_two_claimants_on_either_side_of_a_cut_end_as_one_host(tmp_path: Path) -> None:
    async with world(tmp_path, ALICE, BOB, VICTOR, WORKER) as mesh:
        alice, bob = mesh[ALICE], mesh[BOB]
        mesh.part((ALICE, VICTOR), (BOB, WORKER))

        async def elect(seconds: int) -> None:
            for _ in range(seconds * 2):
                alice.elect(VICTOR, WORKER)
                bob.elect(VICTOR, WORKER)
                await asyncio.sleep(0.5)
                for worker in (mesh[VICTOR], mesh[WORKER]):
                    assert not (worker.serves(alice) and worker.serves(bob))
                assert not alice.leases() & bob.leases()

        await elect(12)
        assert (alice.leases(), bob.leases()) == ({VICTOR}, {WORKER})
        assert alice.claims[0].term == bob.claims[0].term

        mesh.heal()
        await elect(30)
        # Bob's claim stands for its higher id. Victor had served Alice in that term, so Bob stepped up.
        assert (alice.leases(), bob.leases()) == (set(), {VICTOR, WORKER})
        assert (MODEL, 1) in bob.stale and alice.claims == [] and bob.claims[0].term == 2


async def test_a_takeover_waits_until_the_cut_off_host_has_stopped(tmp_path: Path) -> None:
    async with world(tmp_path, ALICE, BOB, WORKER) as mesh:
        alice, bob = mesh[ALICE], mesh[BOB]
        alice.claim(4, WORKER)
        await alice.until_leased(WORKER)
        mesh.part((ALICE,), (BOB, WORKER))
        began = asyncio.get_running_loop().time()
        bob.claim(5, WORKER)
        while not bob.leases():
            assert asyncio.get_running_loop().time() - began < LEASE_S + 2
            await asyncio.sleep(0.02)
            assert not (alice.leases() and bob.leases())
        assert asyncio.get_running_loop().time() - began > 6


async def test_a_takeover_is_quick_where_the_first_host_can_be_told(tmp_path: Path) -> None:
    async with world(tmp_path, ALICE, BOB, WORKER) as mesh:
        alice, bob = mesh[ALICE], mesh[BOB]
        alice.claim(4, WORKER)
        await alice.until_leased(WORKER)
        bob.claim(5, WORKER)
        await bob.until_leased(WORKER, limit_s=5.0)
        assert alice.leases() == set() and alice.keeper.refusals(MODEL)[WORKER].startswith("stale_term")
        assert alice.stale == []  # Bob leads: nothing for Alice to step over


@pytest.mark.parametrize(("host_rate", "worker_rate"), [(0.9, 1.1), (1.1, 0.9)])
async def test_clocks_that_run_unevenly_keep_a_lease_alive(
    tmp_path: Path, host_rate: float, worker_rate: float
) -> None:
    async with world(tmp_path, ALICE, WORKER) as mesh:
        alice, worker = mesh[ALICE], mesh[WORKER]
        alice.clock.rate, worker.clock.rate = host_rate, worker_rate
        alice.claim(4, WORKER)
        await alice.until_leased(WORKER)
        for _ in range(100):
            await asyncio.sleep(0.5)
            assert worker.serves(alice)


async def test_on_a_slow_wire_answers_come_too_late_to_be_used(tmp_path: Path) -> None:
    async with world(tmp_path, ALICE, WORKER, delay_s=1.2) as mesh:
        alice = mesh[ALICE]
        alice.claim(4, WORKER)
        for _ in range(40):
            await asyncio.sleep(0.5)
            assert alice.leases() == set()


async def test_a_claim_that_is_not_seen_yet_only_waits_for_gossip(tmp_path: Path) -> None:
    async with world(tmp_path, ALICE, WORKER) as mesh:
        alice = mesh[ALICE]
        alice.claim(4, WORKER)
        alice.claims = []
        await alice.until(lambda: "not_claimed" in alice.keeper.refusals(MODEL).get(WORKER, ""))
        alice.claims = [Claim(MODEL, 4, GIB, ALICE)]
        await alice.until_leased(WORKER, limit_s=2.0)


async def test_where_the_fence_cannot_be_written_nothing_is_granted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "no space left on device")

    async with world(tmp_path, ALICE, WORKER) as mesh:
        alice, worker = mesh[ALICE], mesh[WORKER]
        with monkeypatch.context() as disk:
            disk.setattr(os, "fsync", full)
            alice.claim(4, WORKER)
            await alice.until(lambda: "cannot write its fences" in alice.keeper.refusals(MODEL).get(WORKER, ""))
            assert worker.service.grants() == {} and not worker.path.exists()
        await alice.until_leased(WORKER, limit_s=3.0)
        assert worker.path.exists()


async def test_where_the_fences_on_disk_are_damaged_nothing_is_granted(tmp_path: Path) -> None:
    async with world(tmp_path, ALICE, WORKER) as mesh:
        alice, worker = mesh[ALICE], mesh[WORKER]
        worker.service = LeaseService(None, worker.view, worker.clock)
        alice.claim(4, WORKER)
        await alice.until(lambda: "damaged" in alice.keeper.refusals(MODEL).get(WORKER, ""))
        assert worker.service.grants() == {}
        assert worker.service.find(Peer(ALICE, Role.MEMBER, 1, "", b""), lease_text(lease_id(1), 4)) is None


async def test_a_worker_without_room_says_so(tmp_path: Path) -> None:
    def room(host: NodeId, request: LeaseRequest) -> LeaseRefused | None:
        return LeaseRefused(RefusalCode.NO_ROOM, "0.5 GiB free") if request.memory_bytes > 5 else None

    async with world(tmp_path, ALICE, WORKER, room=room) as mesh:
        mesh[ALICE].claim(4, WORKER)
        await mesh[ALICE].until(lambda: mesh[ALICE].keeper.refusals(MODEL) == {WORKER: "no_room: 0.5 GiB free"})


async def test_nonsense_ends_its_stream_and_nothing_else(tmp_path: Path) -> None:
    async with world(tmp_path, ALICE, WORKER) as mesh:
        header = StreamHeader(PROTOCOL, "", 1000)
        with pytest.raises(StreamReset, match="PROTOCOL_ERROR"):
            await ask(mesh[ALICE].transport, WORKER, header, b"\xc1", 1024)
        mesh[ALICE].claim(4, WORKER)
        await mesh[ALICE].until_leased(WORKER)


async def test_who_asks_too_often_is_told_to_wait_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_service, "EACH", Allowance(in_flight=2, burst=5, per_second=0.1))
    async with world(tmp_path, ALICE, BOB, WORKER) as mesh:
        header = StreamHeader(PROTOCOL, "", 1000)
        question = wire.encode(LeaseRequest(MODEL, 4, lease_id(1), True))
        codes = []
        for _ in range(7):
            reply = read_reply(await ask(mesh[ALICE].transport, WORKER, header, question, 1024), WORKER)
            assert isinstance(reply, LeaseRefused)
            codes.append(reply.code)
        assert codes == [RefusalCode.NOT_CLAIMED] * 5 + [RefusalCode.BUSY] * 2
        mesh[BOB].claim(4, WORKER)
        await mesh[BOB].until_leased(WORKER)


async def test_a_keeper_that_is_stopped_leaves_nothing_running(tmp_path: Path) -> None:
    async with world(tmp_path, ALICE, WORKER) as mesh:
        keeper = LeaseKeeper(mesh[ALICE].transport, mesh[ALICE].clock)
        mesh[WORKER].awake.clear()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(keeper.run())
            keeper.hold(Hold(MODEL, "work", 4, {WORKER: 0}))
            await asyncio.sleep(0.5)
            task.cancel()
        assert task.cancelled() and keeper.leases(MODEL) == {}
