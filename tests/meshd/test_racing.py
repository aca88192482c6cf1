"""What a node enters a race with, and what its owner is told of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from gossip.facts import Device
from meshd.attest.attestation import Findings, attest
from meshd.attest.race_worker import RaceWorker
from meshd.attest.races import RaceOptions
from meshd.attest.transcript import Kept
from meshd.cli.poc import app
from meshd.control import CommandFailed
from meshd.racing import CLIENT_COMMANDS, Racing, groups_of, members
from tests.meshd.attest.racing import MESH_ID, race_field
from transport import virtual_time, wire
from transport.identity import NodeKey
from transport.interface import Link, LinkState, NodeId, Role

GIB = 1 << 30


def gpu(gib: int) -> Device:
    return Device("card", "cuda", gib * GIB, gib * GIB)


def test_gpus_prove_in_groups_and_a_host_that_cannot_use_them_with_its_processor() -> None:
    devices = (gpu(24), gpu(12), gpu(12), Device("memory", "cpu", GIB, GIB))
    assert groups_of(devices, has_cupy=True) == ((0,), (1, 2))
    assert groups_of(devices, has_cupy=False) == ((),)
    assert groups_of((), has_cupy=True) == ((),)


def test_members_that_are_connected_may_race() -> None:
    def link(number: int, role: Role, state: LinkState) -> Link:
        return Link(NodeId(bytes([number]) * 32), role, "", state, None, "memory", None, 0, 0)

    links = [
        link(1, Role.MEMBER, LinkState.CONNECTED),
        link(2, Role.CLIENT, LinkState.CONNECTED),
        link(3, Role.OWNER, LinkState.CONNECTED),
        link(4, Role.MEMBER, LinkState.LOST),
    ]
    assert [node[0] for node in members(links)] == [1, 3]


def test_an_owner_is_told_how_a_race_went_and_why_there_is_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with race_field(tmp_path) as field:
            one = await field.enter()
            table = Racing(one.races, RaceWorker(), lambda kept: None).table()
            with pytest.raises(CommandFailed, match="called no race"):
                await table["poc_progress"]({})
            with pytest.raises(CommandFailed, match="tiny, small"):
                await table["poc_race"]({"preset": "huge"})
            with pytest.raises(CommandFailed, match="seconds"):
                await table["poc_race"]({"work_s": 1e6})
            alone = await one.race()
            assert (await table["poc_progress"]({}))["reason"] == alone.reason
            assert "no other member" in alone.reason
            await field.enter()
            over = await one.race(work_s=2.0)
            told = await table["poc_progress"]({})
            assert (told["state"], len(told["claimants"]), len(told["attestations"])) == ("over", 2, 2)
            path = (await table["poc_transcript"]({"digest": told["attestations"][0]["transcript"]}))["path"]
            assert one.races.context.store.path(bytes.fromhex(Path(path).name)) == Path(path)
            with pytest.raises(CommandFailed, match="no node"):
                await table["poc_transcript"]({"digest": "0" * 64})
            with pytest.raises(CommandFailed, match="64 hex digits"):
                await table["poc_transcript"]({"digest": "x"})
            assert over.race is not None
            one.races.options = RaceOptions(taking="off")
            with pytest.raises(CommandFailed, match="--poc off"):
                await table["poc_race"]({})

    virtual_time.run(scenario())


async def test_a_lite_client_is_told_where_to_ask() -> None:
    for command in CLIENT_COMMANDS.values():
        with pytest.raises(CommandFailed, match="ask a member"):
            await command({})


def test_races_are_declined_until_enough_time_has_passed_since_the_last(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with race_field(tmp_path) as field:
            one, other = await field.enter(), await field.enter()
            other.races.options = RaceOptions(apart=10.0)
            assert (await one.race(work_s=2.0)).state == "over"
            again = await one.race(work_s=2.0)
            assert "just now" in again.absent[other.node]

    virtual_time.run(scenario())


def test_a_transcript_on_file_holds_and_a_false_word_about_it_does_not(tmp_path: Path) -> None:
    async def scenario() -> tuple[Path, Kept, NodeKey]:
        async with race_field(tmp_path) as field:
            one, _ = await field.enter(), await field.enter()
            called = await one.race(work_s=2.0)
            own = next(found for found in called.attestations if found.verifier == one.node)
            store, digest = one.races.context.store, own.findings.transcript
            kept = store.find(digest)
            assert kept is not None
            return store.path(digest), kept, one.key

    path, kept, key = virtual_time.run(scenario())
    code, report = verified(path)
    assert (code, report["is_honest"], report["is_confirmed"], report["said"]) == (0, True, True, "attested")
    findings = msgspec.structs.replace(
        wire.decode(kept.signed.findings, Findings, peer=None, max_bytes=1024), verdict="fraud"
    )
    forged = tmp_path / "forged"
    forged.write_bytes(wire.encode(Kept(kept.transcript, attest(findings, key, MESH_ID).signed)))
    code, report = verified(forged)
    assert (code, report["is_honest"], report["is_confirmed"], report["said"]) == (1, True, False, "fraud")


def verified(path: Path) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(app, ["verify", str(path), "--json"])
    return result.exit_code, json.loads(result.stdout)
