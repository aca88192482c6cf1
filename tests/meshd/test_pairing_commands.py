"""What an owner sees of those who ask to come in, and what its answers do."""

from __future__ import annotations

from typing import Any

import pytest

from meshd.control import CommandFailed
from meshd.pairing_commands import PairingCommands
from tests.transport.meshes import NOW, Mesh
from transport.errors import RefusalCode, Refused
from transport.handshake import PairingRequest
from transport.identity import node_text
from transport.interface import Role
from transport.pairing import PairingDesk
from transport.site import Asked


class Office:
    """A desk with one request, and its commands."""

    def __init__(self, may_invite: bool = True) -> None:
        self.desk = PairingDesk()
        self.key = Mesh().key()
        self.commands = PairingCommands(self.desk, lambda: may_invite, lambda: NOW + 5)
        assert self.ask() is RefusalCode.PAIRING_PENDING

    def ask(self, code: str = "") -> RefusalCode | None:
        request = PairingRequest(self.key.public, Role.MEMBER, 1, "laptop", b"n" * 32, b"s" * 64, code)
        try:
            self.desk.ask(Asked(request, "ABCDEFGH2345"), "10.0.0.9", NOW)
        except Refused as refused:
            return refused.code
        return None

    async def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        return await self.commands.table()[name](arguments)


async def test_a_request_is_shown_with_what_the_owner_can_compare() -> None:
    office = Office()

    assert await office.call("token_requests") == {
        "requests": [
            {
                "id": "ABCD-EFGH-2345",
                "node": node_text(office.key.node),
                "name": "laptop",
                "role": "member",
                "address": "10.0.0.9",
                "state": "waiting",
                "age_s": 5,
            }
        ]
    }


@pytest.mark.parametrize("typed", ["ABCD-EFGH-2345", "abcdefgh2345", " abcd efgh 2345 "])
async def test_accepting_lets_the_asker_in(typed: str) -> None:
    office = Office()

    assert (await office.call("token_accept", id=typed))["state"] == "accepted"
    assert office.ask("ABCDEFGH2345") is None


async def test_refusing_is_told_to_the_asker() -> None:
    office = Office()

    assert (await office.call("token_refuse", id="ABCD-EFGH-2345"))["state"] == "refused"
    assert office.ask("ABCDEFGH2345") is RefusalCode.PAIRING_REFUSED


@pytest.mark.parametrize("typed", ["ABCD-EFGH-2346", "", None, 7])
async def test_a_code_that_nobody_asks_with_warns_of_somebody_between(typed: object) -> None:
    office = Office()

    with pytest.raises(CommandFailed, match="somebody is between the two"):
        await office.call("token_accept", id=typed)
    assert office.ask("ABCDEFGH2345") is RefusalCode.PAIRING_PENDING


@pytest.mark.parametrize("command", ["token_requests", "token_accept", "token_refuse"])
async def test_only_who_may_invite_decides(command: str) -> None:
    with pytest.raises(CommandFailed, match="on the founder"):
        await Office(may_invite=False).call(command, id="ABCD-EFGH-2345")
