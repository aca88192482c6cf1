"""What a mesh tells itself about itself: believed when it proves itself, and passed on."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from meshd.belonging import load
from meshd.datadir import DataDir
from meshd.mesh_facts import REVOKED_FACT, ROOTS_FACT, encode_roots
from meshd.standing import Standing
from tests.mesh.standing_node import StandingNode, meet, standing_node
from transport import link
from transport.certificate import Signer, issue
from transport.identity import NodeKey
from transport.interface import Role
from transport.revocation import Names, sign_revocations
from transport.rotation import succeed

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "HIGHER_ID_WAITS_S", 0.0)


def in_no_mesh(folder: Path) -> Standing:
    directory = DataDir(folder)
    directory.create()
    return Standing(load(directory, os.urandom), time.time, os.urandom)


def founder(folder: Path) -> Standing:
    standing = in_no_mesh(folder)
    standing.belonging.found("home", time.time(), os.urandom)
    return standing


def member(folder: Path, owner: Standing) -> Standing:
    standing, root, mesh = in_no_mesh(folder), owner.belonging.root, owner.membership
    assert root is not None
    public = standing.belonging.key.public
    encoded = issue(Signer(root), mesh.mesh_id, public, Role.MEMBER, (), time.time(), os.urandom)
    standing.belonging.accept(mesh.renewed(encoded))
    return standing


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - several tasks away
            await asyncio.sleep(0.02)


def told(teller: StandingNode, key: str, listener: StandingNode) -> bytes | None:
    """The fact of one node as another knows it."""
    entry = listener.gossip.view.get(teller.node)
    return entry.facts.get(key) if entry is not None else None


async def test_a_list_and_a_root_key_reach_a_member_that_tells_them_on(tmp_path: Path) -> None:
    owner = founder(tmp_path / "o")
    first, second = member(tmp_path / "1", owner), member(tmp_path / "2", owner)
    outcast = Names(nodes=frozenset({b"o" * 32}))
    async with standing_node(owner, Role.OWNER) as top, standing_node(first) as one:
        await meet(top, one)
        owner.rotate_root()
        owner.revoke(outcast)
        await until(lambda: first.revoked == outcast.every and first.roots == owner.roots)
        # A third that never met the owner hears of both from the first, whose word it does not need.
        async with standing_node(second) as two:
            await meet(one, two)
            await until(lambda: second.revoked == outcast.every and second.roots == owner.roots)
            await until(lambda: second.certificate().root_public == owner.roots.current)


async def test_lies_about_the_mesh_cost_nothing_but_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    owner = founder(tmp_path / "o")
    liar, listener = member(tmp_path / "1", owner), member(tmp_path / "2", owner)
    mesh_id, roots = owner.membership.mesh_id, owner.roots
    thief, heir = NodeKey(b"t" * 32), NodeKey(b"h" * 32)
    own_key = liar.belonging.key
    async with standing_node(liar) as lies, standing_node(listener) as hears:
        await meet(lies, hears)
        everyone = Names(nodes=frozenset({hears.node}))
        forged_roots = succeed(own_key, heir, mesh_id, time.time())
        for number, (key, value) in enumerate(
            [
                (REVOKED_FACT, b"nonsense"),
                (REVOKED_FACT, sign_revocations(thief, mesh_id, 99, everyone, time.time())),
                (REVOKED_FACT, sign_revocations(own_key, mesh_id, 99, everyone, time.time())),
                (ROOTS_FACT, b"nonsense"),
                (ROOTS_FACT, encode_roots((forged_roots,))),
                (ROOTS_FACT, encode_roots((forged_roots[:-1] + b"x",))),
            ]
        ):
            lies.gossip.publish(key, value, is_urgent=True)
            await until(lambda key=key, value=value: told(lies, key, hears) == value)  # type: ignore[misc]
            marker = b"%d" % number
            hears.gossip.publish("marker", marker, is_urgent=True)  # has its news look at the view once more
            await until(lambda marker=marker: told(hears, "marker", lies) == marker)  # type: ignore[misc]
        await until(lambda: "ignoring what" in caplog.text)
        assert listener.revoked == frozenset() and listener.roots == roots
        assert hears.sees(lies) and listener.belonging.directory.read("revoked") is None


async def test_who_is_revoked_by_word_of_mouth_is_closed_at_once(tmp_path: Path) -> None:
    """A fact of the owner's is all that the member has to go by."""
    owner = founder(tmp_path / "o")
    middle, outcast = member(tmp_path / "1", owner), member(tmp_path / "2", owner)
    async with (
        standing_node(owner, Role.OWNER) as top,
        standing_node(middle) as between,
        standing_node(outcast) as out,
    ):
        await meet(between, out)
        await meet(top, between)
        owner.revoke(Names(nodes=frozenset({out.node})))
        await until(lambda: between.transport.node not in {peer.node for peer in out.transport.peers()})
        assert out.node not in {peer.node for peer in between.transport.peers()}
        await until(lambda: between.gossip.view.get(out.node) is None and top.gossip.view.get(out.node) is None)
