"""Months of whole agents: certificates are renewed by the owner, by members while it is away, and by it again."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from meshd import lapses, renewals
from meshd.agent import Agent, CannotStart
from meshd.config import Config
from tests.mesh.agents import Agents, RunningAgent, running_agents, until
from transport.certificate import LIFETIME_S
from transport.errors import Refused
from transport.interface import Role

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timers of minutes and hours, as if those passed as fast as the calendar."""
    monkeypatch.setattr(renewals, "CHECK_S", 0.2)
    monkeypatch.setattr(renewals, "LOOK_AGAIN_S", 0.05)
    monkeypatch.setattr(renewals, "FIRST_BACKOFF_S", 0.2)
    monkeypatch.setattr(renewals, "MAX_BACKOFF_S", 1.0)
    monkeypatch.setattr(lapses, "CHECK_S", 0.5)


async def meet(*agents: RunningAgent) -> None:
    """Wait until each sees all the others alive."""
    names = {agent.name for agent in agents}
    for agent in agents:
        await until(partial(sees, agent, names - {agent.name}), f"{agent.name} meets {names}")


async def sees(agent: RunningAgent, others: set[str]) -> bool:
    return dict.fromkeys(others, "alive").items() <= (await agent.peers()).items()


def is_young(agent: RunningAgent) -> bool:
    try:
        return agent.certificate.expires - agent.clock() > LIFETIME_S - 3600
    except Refused:
        return False  # it has ended


def is_confirmed(agent: RunningAgent) -> bool:
    """Whether root or delegate signed its certificate, and not two members."""
    return agent.certificate.renews is None


async def until_young(*agents: RunningAgent) -> None:
    """Wait until the certificates of all these, on disk, are newly made."""
    for agent in agents:
        await until(partial(is_young, agent), f"{agent.name} renewed")


async def connected_to(agent: RunningAgent) -> set[str]:
    links = (await agent.call("status"))["links"]
    return {link["node"] for link in links if link["state"] == "connected"}


async def mesh_of(agents: Agents, *names: str) -> list[RunningAgent]:
    founder = await agents.start("founder")
    token = await founder.token(uses=len(names))
    return [founder, *[await agents.start(name, token) for name in names]]


async def test_everyone_is_renewed_by_the_owner_and_nobody_notices(tmp_path: Path) -> None:
    async with running_agents(tmp_path) as agents:
        founder, member = await mesh_of(agents, "member")
        client = await agents.start("laptop", await founder.token("client"), client=True)
        await meet(founder, member)
        before = {agent.name: agent.certificate for agent in (founder, member, client)}
        links = await connected_to(member)

        agents.clock.pass_days(21)
        await until_young(founder, member, client)

        for agent in (founder, member, client):
            own = agent.certificate
            assert own.serial != before[agent.name].serial
            assert (own.role, own.caps, own.renews) == (before[agent.name].role, before[agent.name].caps, None)
        await meet(founder, member)
        assert links and links <= await connected_to(member)
        # Long after the first certificate would have ended:
        agents.clock.pass_days(15)
        await agents.stop(member)
        await meet(founder, await agents.start("member"))


async def test_members_renew_each_other_while_the_owner_is_away_and_it_confirms_them(tmp_path: Path) -> None:
    async with running_agents(tmp_path) as agents:
        founder, *members = await mesh_of(agents, "one", "two", "three")
        await meet(founder, *members)
        await agents.stop(founder)

        agents.clock.pass_days(21)
        await until_young(*members)

        for member in members:
            own = member.certificate
            assert own.renews is not None and len(own.countersigners) == 2 and own.role is Role.MEMBER
        await meet(*members)

        # The owner's own certificate has ended, and it holds the root key.
        agents.clock.pass_days(10)
        founder = await agents.start("founder")
        assert is_young(founder)
        await meet(founder, *members)
        for member in members:
            await until(partial(is_confirmed, member), f"{member.name} confirmed")


async def test_who_may_not_be_renewed_is_sent_away_when_its_time_is_up(
    tmp_path: Path,
) -> None:
    """Two members cannot renew each other; when their certificates end, so do their connections."""
    async with running_agents(tmp_path) as agents:
        founder, *members = await mesh_of(agents, "one", "two")
        await meet(founder, *members)
        await agents.stop(founder)
        one, two = members

        agents.clock.pass_days(31)

        for member in (one, two):
            await until(partial(is_alone, member), f"{member.name} is alone")


async def is_alone(agent: RunningAgent) -> bool:
    return not await connected_to(agent)


async def test_a_node_that_was_away_too_long_is_told_what_to_do(tmp_path: Path) -> None:
    async with running_agents(tmp_path) as agents:
        founder, member = await mesh_of(agents, "member")
        await meet(founder, member)
        await agents.stop(member)
        agents.clock.pass_days(31)
        await until_young(founder)
        config = Config(name="member", port=0, bind="127.0.0.1:0", no_mdns=True)
        with pytest.raises(CannotStart, match="meshd token create"):
            await Agent(config, member.directory, lambda line: None, agents.clock).run(member.stop)

        again = await agents.start("member", await founder.token())
        await meet(founder, again)
