"""Blobs between real agents: put on one by hand, called by its digest on another, and out of a lite client's reach."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from typer.testing import CliRunner, Result

from forms.circuits.generator.generate import Algorithm, Arithmetic, generate
from meshd.cli.blob import app
from meshd.local_agents import LocalAgent, LocalAgents
from tests.live.test_bend import ask_wire, door
from transport.blob_store import digest_of

CIRCUIT = generate(Arithmetic.ADDER, 5, Algorithm())
NAME = digest_of(CIRCUIT).hex()


async def meshd_blob(agent: LocalAgent, *words: str) -> Result:
    """Type `meshd blob WORDS`."""
    return await asyncio.to_thread(CliRunner().invoke, app, [*words, "--data-dir", str(agent.directory)])


async def test_a_circuit_put_on_one_node_is_called_on_another(agents: LocalAgents, tmp_path: Path) -> None:
    file = tmp_path / "adder.ops"
    file.write_bytes(CIRCUIT)
    async with agents.start("founder") as founder:
        member_token, client_token = await founder.token("member"), await founder.token("client")
        async with (
            agents.start("member", ["--join", member_token]) as member,
            agents.start("client", ["--client", "--join", client_token]) as client,
        ):
            assert (await meshd_blob(founder, "put", str(file))).stdout == NAME + "\n"
            call = f'(cuda-sim-ops-bin "{NAME}" 1 (check adder))'
            (said,) = await ask_wire(await door(member, "bend"), call)
            assert said.endswith("(clean #t))"), said
            here = json.loads((await meshd_blob(member, "list", "--json")).stdout)
            assert here["blobs"] == [{"digest": NAME, "size_bytes": len(CIRCUIT), "is_copy": True}]
            got = await meshd_blob(member, "get", NAME, "--out", str(tmp_path / "out"))
            assert got.exit_code == 0 and (tmp_path / "out").read_bytes() == CIRCUIT

            # A lite client has what it puts at its own door, and nothing of what members have.
            refused = await meshd_blob(client, "get", NAME)
            assert refused.exit_code == 1 and "none of 0 nodes has blob" in refused.stderr
            assert (await meshd_blob(client, "put", str(file))).exit_code == 0
            assert (await meshd_blob(client, "get", NAME)).stdout_bytes == CIRCUIT

            assert (await meshd_blob(member, "rm", NAME)).exit_code == 0
            gone = await meshd_blob(member, "rm", NAME)
            assert gone.exit_code == 1 and "meshd blob list" in gone.stderr
            assert "0.000 of 8.000 GB" in (await meshd_blob(member, "list")).stdout

            # What only the client has is pulled from it by the member that it calls.
            assert (await meshd_blob(founder, "rm", NAME)).exit_code == 0
            reply, _ = await asyncio.to_thread(client.control.post, "form_call", call.encode(), on="member")
            assert reply.endswith(b"(clean #t))\n"), reply
            assert "copy" in (await meshd_blob(member, "list")).stdout
