"""The command line as a person or a script types it, against a running agent."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from dataclasses import dataclass
from typing import Any

from meshd import __version__
from meshd.local_agents import LocalAgent, LocalAgents
from transport.identity import NodeKey
from transport.interface import Role
from transport.invite import parse_token


@dataclass(frozen=True, slots=True)
class Typed:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        answer = json.loads(self.out)
        assert isinstance(answer, dict)
        return answer


async def meshd(*words: str, **environment: str) -> Typed:
    """Type `meshd WORDS`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "meshd", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Typed(process.returncode, out.decode(), err.decode())


def at(agent: LocalAgent) -> str:
    return str(agent.directory)


async def test_tokens_are_created_listed_and_revoked(agents: LocalAgents) -> None:
    async with agents.start("founder") as founder:
        created = await meshd("token", "create", "--role", "client", "--uses", "2", "--data-dir", at(founder))
        token_id = parse_token(created.out).token_id.hex()
        listed = await meshd("token", "list", "--json", "--data-dir", at(founder))
        revoked = await meshd("token", "revoke", token_id, "--data-dir", at(founder))
        after = await meshd("token", "list", "--json", MESHD_DATA_DIR=at(founder))

    assert (created.status, revoked.status) == (0, 0)
    assert parse_token(created.out).role is Role.CLIENT
    state = {entry["id"]: entry["state"] for entry in listed.json["tokens"]}
    assert state[token_id] == "valid"
    assert {entry["id"]: entry["state"] for entry in after.json["tokens"]}[token_id] == "revoked"


async def test_a_bad_duration_is_explained(agents: LocalAgents) -> None:
    async with agents.start("founder") as founder:
        bad = await meshd("token", "create", "--ttl", "soon", "--data-dir", at(founder))

    assert (bad.status, bad.out) == (1, "")
    assert "24h" in bad.err


async def test_only_the_founder_issues_tokens(agents: LocalAgents) -> None:
    async with (
        agents.start("founder") as founder,
        agents.start("member", ["--join", await founder.token("member")]) as member,
    ):
        refused = await meshd("token", "create", "--data-dir", at(member))

    assert refused.status == 1
    assert "founder" in refused.err


async def test_the_status_is_for_people_and_for_scripts(agents: LocalAgents) -> None:
    async with agents.start("founder", ["--model", "echo:parrot"]) as founder:
        await founder.until(lambda status: bool(status["models"]), 60)
        shown = await meshd("status", "--data-dir", at(founder))
        asked = await meshd("status", "--json", "--data-dir", at(founder))

    assert "founder" in shown.out and "parrot" in shown.out
    assert asked.json["node"]["name"] == "founder"
    assert asked.json["node"]["version"] == __version__


async def test_without_an_agent_the_status_says_what_to_do(agents: LocalAgents) -> None:
    nobody = await meshd("status", "--data-dir", str(agents.folder))

    assert nobody.status == 1
    assert "start one with `meshd`" in nobody.err


async def test_the_root_key_is_exported_once_and_closed(agents: LocalAgents) -> None:
    backup = agents.folder / "root.backup"
    async with agents.start("founder") as founder:
        first = await meshd("mesh", "export-root", str(backup), "--data-dir", at(founder))
        again = await meshd("mesh", "export-root", str(backup), "--data-dir", at(founder))

    assert (first.status, again.status) == (0, 1)
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    NodeKey(backup.read_bytes())


async def test_an_owner_is_kept_from_losing_the_root_key(agents: LocalAgents) -> None:
    async with agents.start("founder") as founder:
        refused = await meshd("leave", "--data-dir", at(founder))
        assert refused.status == 1
        assert "export-root" in refused.err

        forced = await meshd("leave", "--force", "--data-dir", at(founder))

        assert forced.status == 0
        assert await asyncio.wait_for(founder.child.wait(), 60) == 0


async def test_the_doctor_recognises_the_running_agent(agents: LocalAgents) -> None:
    async with agents.start("founder") as founder:
        port = (await founder.status())["doors"]["api"].rpartition(":")[2]
        checked = await meshd("--port", port, "--data-dir", at(founder), "doctor", "--json")

    (check,) = [check for check in checked.json["checks"] if check["name"] == "port-api"]
    assert check["ok"], check


async def test_the_doctor_names_a_taken_port_and_a_fix(agents: LocalAgents) -> None:
    async with agents.start("founder") as founder:
        port = (await founder.status())["doors"]["api"].rpartition(":")[2]
        checked = await meshd("--port", port, "--data-dir", str(agents.folder / "other"), "doctor", "--json")

    (check,) = [check for check in checked.json["checks"] if check["name"] == "port-api"]
    assert checked.status == 1
    assert not check["ok"]
    assert "--port" in check["fix"]


async def test_settings_are_shown_with_their_sources(agents: LocalAgents) -> None:
    file = agents.folder / "meshd.toml"
    file.write_text("ctx = 2048\n")
    shown = await meshd("--config", str(file), "--port", "9400", "config", "--json", MESHD_NAME="box")

    assert shown.json["port"] == {"value": 9400, "source": "--port"}
    assert shown.json["name"] == {"value": "box", "source": "MESHD_NAME"}
    assert shown.json["ctx"] == {"value": 2048, "source": "meshd.toml"}


async def test_a_bad_setting_is_a_usage_error(agents: LocalAgents) -> None:
    bad = await meshd("--bend-listen", "0.0.0.0", "--data-dir", str(agents.folder))

    assert bad.status == 2
    assert "--bend-key-file" in bad.err


async def test_the_version() -> None:
    assert (await meshd("version")).out.strip() == __version__
    assert (await meshd("version", "--json")).json == {"version": __version__}


async def test_an_unknown_bench_is_told_apart_and_a_known_one_gets_its_words() -> None:
    unknown, known = await meshd("bench", "nothing"), await meshd("bench", "api", "--help")

    assert (unknown.status, known.status) == (1, 0)
    assert "no bench 'nothing'" in unknown.err
    assert "--engine" in known.out


async def test_an_owner_delegates_revokes_and_replaces_the_root_key(agents: LocalAgents) -> None:
    async with (
        agents.start("founder") as founder,
        agents.start("member", ["--join", await founder.token("member")]) as member,
    ):
        await founder.until(lambda status: len(status["peers"]) == 1, 60)
        where = ("--data-dir", at(founder))
        named = await meshd("mesh", "delegate", "member", "--json", *where)
        unnamed = await meshd("mesh", "delegate", "member", "--remove", *where)
        rotated = await meshd("mesh", "rotate-root", *where)
        again = await meshd("mesh", "rotate-root", "--json", *where)
        revoked = await meshd("mesh", "revoke", "member", "--json", *where)
        unknown = await meshd("mesh", "revoke", "stranger", *where)
        elsewhere = await meshd("mesh", "rotate-root", "--data-dir", at(member))

    assert named.json["may_invite"] and named.json["delegates"] == [named.json["node"]]
    assert unnamed.status == 0 and "whom it invited stays" in unnamed.err
    assert rotated.status == 0 and "export-root" in rotated.err and rotated.out == ""
    assert again.json["old_root_counts_until"] > 1_700_000_000
    assert revoked.json["node"] == named.json["node"] and revoked.json["disconnected"] == [named.json["node"]]
    assert (unknown.status, elsewhere.status) == (1, 1)
    assert "meshd status" in unknown.err and "on the founder" in elsewhere.err
