"""What the control door does with tokens, and when it refuses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from meshd.belonging import Belonging, load
from meshd.commands import Commands
from meshd.control import CommandFailed
from meshd.datadir import DataDir
from meshd.standing import Standing
from meshd.status import Situation
from tests.meshd.test_status import situation
from transport.interface import Address, Role
from transport.invite import parse_token

NOW = 1_800_000_000.0


class Desk:
    """Commands of one node, and whether it was told to leave."""

    def __init__(self, belonging: Belonging) -> None:
        self.left = False
        self.belonging = belonging
        standing = Standing(belonging, lambda: NOW, os.urandom)
        self.commands = Commands(standing, self.situation, lambda: [Address("10.0.0.1", 7842)], self.leave)

    def situation(self) -> Situation:
        return situation()

    async def leave(self) -> None:
        self.left = True

    async def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        return await self.commands.table()[name](arguments)


def desk(path: Path, *, founder: bool) -> Desk:
    directory = DataDir(path)
    directory.create()
    belonging = load(directory, os.urandom)
    if founder:
        belonging.found("home", NOW, os.urandom)
    return Desk(belonging)


async def test_a_token_is_on_disk_before_it_is_told(tmp_path: Path) -> None:
    founder = desk(tmp_path, founder=True)
    answer = await founder.call("token_create", role="client", ttl_s=60, uses=3)

    invite = parse_token(answer["token"])
    assert (invite.role, invite.uses, invite.addresses) == (Role.CLIENT, 3, (Address("10.0.0.1", 7842),))
    kept = load(founder.belonging.directory, os.urandom).tokens
    assert kept is not None and [entry.token_id for entry in kept.list(NOW)] == [invite.token_id]


async def test_tokens_are_listed_and_revoked(tmp_path: Path) -> None:
    founder = desk(tmp_path, founder=True)
    await founder.call("token_create")
    (entry,) = (await founder.call("token_list"))["tokens"]
    await founder.call("token_revoke", id=entry["id"])

    (revoked,) = (await founder.call("token_list"))["tokens"]
    assert (entry["state"], revoked["state"]) == ("valid", "revoked")


@pytest.mark.parametrize("text", ["", "zz", "00" * 8, None])
async def test_an_unknown_token_cannot_be_revoked(tmp_path: Path, text: object) -> None:
    with pytest.raises(CommandFailed, match="no token has the id"):
        await desk(tmp_path, founder=True).call("token_revoke", id=text)


@pytest.mark.parametrize("arguments", [{"role": "owner"}, {"ttl_s": "1h"}, {"uses": 0}, {"ttl_s": -5}])
async def test_a_token_that_may_not_be_is_refused(tmp_path: Path, arguments: dict[str, object]) -> None:
    founder = desk(tmp_path, founder=True)

    with pytest.raises(CommandFailed):
        await founder.call("token_create", **arguments)
    assert (await founder.call("token_list"))["tokens"] == []


async def test_only_an_issuer_invites(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="on the founder"):
        await desk(tmp_path, founder=False).call("token_create")


async def test_an_owner_does_not_lose_the_root_key_by_leaving(tmp_path: Path) -> None:
    founder = desk(tmp_path, founder=True)

    with pytest.raises(CommandFailed, match="export-root"):
        await founder.call("leave")
    assert not founder.left

    await founder.call("leave", force=True)
    assert founder.left
