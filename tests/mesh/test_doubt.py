"""What gossip says of a peer reaches the transport of the same node."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gossip.event import Doubt
from tests.mesh.standing_node import StandingNode, meet, standing_node
from tests.mesh.test_mesh_news import founder, member
from transport import link
from transport.interface import LinkState

pytestmark = pytest.mark.live


def link_state(one: StandingNode, other: StandingNode) -> LinkState:
    return next(link.state for link in one.transport.links() if link.node == other.node)


async def test_verdict_of_gossip_is_put_to_the_test_by_the_transport(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "HIGHER_ID_WAITS_S", 0.0)
    owners = founder(tmp_path / "owner")
    async with standing_node(owners) as owner, standing_node(member(tmp_path / "member", owners)) as guest:
        await meet(owner, guest)
        owner.gossip._perform(Doubt(guest.node, "as the engine would say"))
        assert link_state(owner, guest) is LinkState.RECONNECTING
        async with asyncio.timeout(60):
            while link_state(owner, guest) is not LinkState.CONNECTED:  # noqa: ASYNC110 - the events are gossip's
                await asyncio.sleep(0.01)
