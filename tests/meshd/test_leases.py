"""Claims and leases of whole nodes over the memory transport: votes, files, and what status is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from gossip.fence import Fences
from gossip.lease import CLAIMS, STEP_UP_S, Claim, encode_claims
from gossip.quorum import Quorum
from gossip.tenure import Hold
from gossip.view import NodeView, Status, View
from llm.claims import DRAIN_S, Won, resource_of
from llm.offer import MODELS_FACT, Offer, OfferedPart, encode_offers
from meshd.leases import EVERY_MODEL, Leases, sleepless_clock
from tests.llm.test_claims import offer
from tests.transport.test_memory import connect
from transport.interface import NodeId, Role
from transport.memory import MemoryNetwork, MemoryTransport
from transport.virtual_time import VirtualTimeLoop

loop_factory = VirtualTimeLoop

A, B, C = (NodeId(bytes([letter]) * 32) for letter in b"abc")
QWEN = resource_of("qwen")
GIB = 1 << 30


@dataclass
class House:
    """A mesh whose members see each other's claims at once, but for those that are cut off."""

    network: MemoryNetwork = field(default_factory=lambda: MemoryNetwork(delay_s=0.01))
    transports: dict[NodeId, MemoryTransport] = field(default_factory=dict)
    leases: dict[NodeId, Leases] = field(default_factory=dict)
    claims: dict[NodeId, Claim] = field(default_factory=dict)
    offers: dict[NodeId, Offer] = field(default_factory=dict)
    cut_off: set[NodeId] = field(default_factory=set)

    def view(self, me: NodeId) -> View:
        others = (node for node in sorted(self.transports) if node != me)
        return View(1, tuple(self._node(node, me) for node in (me, *others)))

    def _node(self, node: NodeId, seen_by: NodeId) -> NodeView:
        is_gone = node != seen_by and bool({node, seen_by} & self.cut_off)
        facts = {CLAIMS: encode_claims([self.claims[node]])} if node in self.claims and not is_gone else {}
        facts |= {MODELS_FACT: encode_offers([self.offers[node]])} if node in self.offers else {}
        status = Status.DEAD if is_gone else Status.ALIVE
        return NodeView(node, f"node {node[:1].decode()}", Role.MEMBER, status, 1, 0, (), facts, None, True, 60.0)

    def claim(self, node: NodeId, term: int) -> None:
        self.claims[node] = Claim(QWEN, term, GIB, node)

    def cut(self, node: NodeId) -> None:
        self.cut_off.add(node)
        for other in self.transports:
            if other != node:
                self.network.cut(node, other)

    async def run(self, node: NodeId) -> None:
        async with asyncio.TaskGroup() as group:
            for name, work in self.leases[node].works().items():
                group.create_task(work, name=name)
            async for stream in self.transports[node].streams():
                group.create_task(self.leases[node].service.serve(stream))


@asynccontextmanager
async def house(folder: Path, *nodes: NodeId, quorum_models: Collection[str] = ()) -> AsyncIterator[House]:
    made = House()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for node in nodes:
            made.transports[node] = await stack.enter_async_context(made.network.transport(node))
        for one in made.transports.values():
            for other in made.transports.values():
                if one.node < other.node:
                    await connect(one, other)
        clock = asyncio.get_running_loop().time
        for node, transport in made.transports.items():
            path = folder / node[:1].decode()
            view = partial(made.view, node)
            made.leases[node] = Leases(path, transport, view, quorum_models=quorum_models, clock=clock)
        tasks = [group.create_task(made.run(node)) for node in nodes]
        yield made
        for task in tasks:
            task.cancel()


async def until(holds: Callable[[], bool], limit_s: float = 20.0) -> None:
    async with asyncio.timeout(limit_s):
        while not holds():  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.05)


async def test_without_being_asked_for_there_is_no_vote(tmp_path: Path) -> None:
    async with house(tmp_path, A, B, C) as mesh:
        mesh.claim(A, 1)
        await asyncio.sleep(5)
        assert mesh.leases[A].why_not_yet(QWEN) == ""
        assert mesh.leases[A].now().quorums == {} and mesh.leases[B].service.grants() == {}


@pytest.mark.parametrize("quorum_models", [("qwen",), (EVERY_MODEL,)])
async def test_a_host_that_needs_a_majority_has_to_wait_for_it(tmp_path: Path, quorum_models: tuple[str, ...]) -> None:
    async with house(tmp_path, A, B, C, quorum_models=quorum_models) as mesh:
        mesh.claim(A, 1)
        assert mesh.leases[A].why_not_yet(QWEN) == "1 of 3 members agree that this node hosts it, 2 have to"
        await until(lambda: mesh.leases[A].why_not_yet(QWEN) == "")
        await until(lambda: mesh.leases[A].now().quorums == {QWEN: Quorum(3, 3)})


async def test_the_smaller_part_of_a_mesh_has_no_host_and_the_larger_one_has(tmp_path: Path) -> None:
    async with house(tmp_path, A, B, C, quorum_models=["qwen"]) as mesh:
        mesh.claim(A, 1)
        await until(lambda: mesh.leases[A].why_not_yet(QWEN) == "")
        mesh.cut(A)
        mesh.claim(B, 2)
        while mesh.leases[B].why_not_yet(QWEN):
            await asyncio.sleep(0.05)
            assert mesh.leases[A].why_not_yet(QWEN) or mesh.leases[B].why_not_yet(QWEN), "two hosts at a time"
        assert mesh.leases[A].why_not_yet(QWEN).startswith("1 of 3 members agree")
        assert mesh.leases[B].now().quorums == {QWEN: Quorum(3, 2)}


async def test_two_members_are_told_that_they_are_too_few(tmp_path: Path) -> None:
    async with house(tmp_path, A, B, quorum_models=["qwen"]) as mesh:
        mesh.claim(A, 1)
        await asyncio.sleep(5)
        assert "of 2 members there is none: 3 at least" in mesh.leases[A].why_not_yet(QWEN)


async def test_a_new_leader_waits_while_the_former_one_ends_what_it_has_begun_but_not_for_ever(tmp_path: Path) -> None:
    leading = replace(offer(name="qwen"), mode="split", parts=(OfferedPart(B, 0.5), OfferedPart(C, 0.5)))
    async with house(tmp_path, A, B, C) as mesh:
        mesh.claim(A, 2)
        mesh.offers = {B: leading}
        assert "node b led it" in mesh.leases[A].why_not_yet(QWEN)
        mesh.offers = {B: replace(leading, state="loading", parts=())}
        assert mesh.leases[A].why_not_yet(QWEN) == ""

        mesh.offers = {B: leading}
        began = asyncio.get_running_loop().time()
        await until(lambda: mesh.leases[A].why_not_yet(QWEN) == "", limit_s=60)
        assert DRAIN_S <= asyncio.get_running_loop().time() - began < DRAIN_S + 1

        mesh.leases[A].why_not_yet(QWEN)
        mesh.cut_off = {B}
        assert mesh.leases[A].why_not_yet(QWEN) == ""


async def test_votes_are_let_go_with_the_claim(tmp_path: Path) -> None:
    async with house(tmp_path, A, B, C, quorum_models=["qwen"]) as mesh:
        mesh.claim(A, 1)
        await until(lambda: len(mesh.leases[B].service.grants()) == 1)
        del mesh.claims[A]
        await until(lambda: mesh.leases[B].service.grants() == {}, limit_s=3)
        assert mesh.leases[A].now().held == {} and mesh.leases[A].now().quorums == {}


async def test_a_refused_term_reaches_the_election(tmp_path: Path) -> None:
    async with house(tmp_path, A, B, C, quorum_models=["qwen"]) as mesh:
        mesh.claim(C, 5)
        await until(lambda: mesh.leases[C].why_not_yet(QWEN) == "")
        del mesh.claims[C]
        mesh.claim(A, 3)
        await until(lambda: "stale_term" in mesh.leases[A].keeper.refusals(QWEN, "vote").get(B, ""))
        offers = (offer(name="qwen"),)
        assert mesh.leases[A].claims.update(mesh.view(A), offers, 0.0) == []
        (change,) = mesh.leases[A].claims.update(mesh.view(A), offers, STEP_UP_S)
        assert isinstance(change, Won) and change.claim.term == 6


async def test_a_claim_is_kept_before_it_is_made_and_known_after_a_restart(tmp_path: Path) -> None:
    async with house(tmp_path, A, B) as mesh:
        assert await mesh.leases[A].keep_claim(Claim(QWEN, 4, GIB, A))
        again = Leases(tmp_path / "a", mesh.transports[A], lambda: mesh.view(A))
        assert again.highest_term(QWEN) == 4 and again.highest_term("host/other") == 0


async def test_what_another_host_was_granted_here_is_not_claimed_in_the_same_term(tmp_path: Path) -> None:
    async with house(tmp_path, A, B) as mesh:
        mesh.claim(B, 4)
        mesh.leases[B].keeper.hold(Hold(QWEN, "work", 4, {A: GIB}))
        await until(lambda: len(mesh.leases[A].now().granted) == 1)
        assert not await mesh.leases[A].keep_claim(Claim(QWEN, 4, GIB, A))
        assert mesh.leases[A].highest_term(QWEN) == 4


async def test_a_damaged_file_is_said_and_neither_granted_nor_claimed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(Fences(floor=3).encode()[:-1])
    async with house(tmp_path, A, B) as mesh:
        leases = mesh.leases[A]
        assert f"delete {tmp_path / 'a'}" in leases.now().problem
        assert not await leases.keep_claim(Claim(QWEN, 4, GIB, A))
        mesh.claim(B, 4)
        mesh.leases[B].keeper.hold(Hold(QWEN, "work", 4, {A: GIB}))
        await until(lambda: "damaged" in mesh.leases[B].keeper.refusals(QWEN).get(A, ""))


def test_the_clock_of_leases_goes_on() -> None:
    clock = sleepless_clock()
    assert clock() <= clock()
