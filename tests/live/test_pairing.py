"""What an owner types when somebody asks to come in, and what it reads."""

from __future__ import annotations

import os

import pytest

from meshd.local_agents import LocalAgent, LocalAgents
from tests.live.test_cli import at, meshd
from transport.address import parse_address
from transport.admission import Site
from transport.errors import Refused
from transport.identity import NodeKey, short
from transport.interface import Address, Role
from transport.pairing import SeenMesh, StillWaiting, code_text
from transport.quic import Joined, QuicTransport

PATIENCE_S = 60.0
HERE = Address("127.0.0.1", 0)


class Asker:
    """A node without a token that has asked `owner` once."""

    def __init__(self, owner: LocalAgent) -> None:
        key = NodeKey.generate(os.urandom)
        self.transport = QuicTransport(Site(key, "laptop", 1, None, Role.MEMBER), HERE)
        self.short = short(key.node)
        self._owner = owner
        self._seen: SeenMesh | None = None
        self.code = ""

    async def ask(self) -> Joined | StillWaiting:
        there = parse_address((await self._owner.status())["doors"]["mesh"])
        self._seen = self._seen or await self.transport.look(there, PATIENCE_S)
        answer = await self.transport.knock(there, self._seen, self.code, PATIENCE_S)
        if isinstance(answer, StillWaiting):
            self.code = answer.code
        return answer


async def test_a_request_is_listed_accepted_and_listed_again(agents: LocalAgents) -> None:
    async with agents.start("owner") as owner:
        asker = Asker(owner)
        async with asker.transport:
            nobody = await meshd("token", "requests", "--data-dir", at(owner))
            await asker.ask()
            listed = await meshd("token", "requests", "--data-dir", at(owner))
            accepted = await meshd("token", "accept", code_text(asker.code).lower(), "--data-dir", at(owner))
            after = await meshd("token", "requests", "--json", "--data-dir", at(owner))
            joined = await asker.ask()

    assert (nobody.out, "meshd --mesh NAME" in nobody.err) == ("", True)
    assert listed.out.split()[:3] == [code_text(asker.code), "member", "waiting"]
    assert f"laptop ({asker.short}) at 127.0.0.1" in listed.out
    assert accepted.out == f"accepted laptop ({asker.short}) at 127.0.0.1 as member\n"
    assert [entry["state"] for entry in after.json["requests"]] == ["accepted"]
    assert isinstance(joined, Joined) and joined.membership.mesh_name == "owner-mesh"
    assert f"if it shows the code {code_text(asker.code)}" in owner.log.read_text()


async def test_a_refused_asker_hears_it_and_a_wrong_code_fails(agents: LocalAgents) -> None:
    async with agents.start("owner") as owner:
        asker = Asker(owner)
        async with asker.transport:
            await asker.ask()
            wrong = await meshd("token", "accept", "AAAA-BBBB-CCCC", "--data-dir", at(owner))
            refused = await meshd("token", "refuse", asker.code, "--json", "--data-dir", at(owner))
            with pytest.raises(Refused, match="said no"):
                await asker.ask()

    assert (wrong.status, "somebody is between the two" in wrong.err) == (1, True)
    assert (refused.json["state"], refused.json["node"][:8]) == ("refused", asker.short)
