"""Keeps a data directory as the version at hand writes it: `python -m tools.data_dir FOLDER`.

One of each format stays in tests/meshd/data_dirs, so that later versions show that they read it. Its keys open nothing
but themselves. Run it for a new format, and never over an old one.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import llm.demo
from meshd.local_agents import LocalAgent, local_agents

KEPT = (
    *("format", "node.key", "root.key", "mesh", "revoked", "tokens", "delegates", "boot", "addresses", "fences"),
    *("keys.json", "models.json"),
)
TOY = Path(llm.demo.__file__).with_name("meshd-toy.gguf")
ELSEWHERE = "/models/meshd-toy.gguf"
"""In place of where the toy lies here: a file that the reader does not have."""
WAIT_S = 60.0


async def used(founder: LocalAgent, members: dict[str, LocalAgent]) -> dict[str, Any]:
    """Do something of everything that is kept, and tell what of it a reader has to find."""
    await founder.until(lambda status: {one["name"] for one in status["peers"]} >= set(members), WAIT_S)
    ids = {name: (await one.status())["node"]["id"] for name, one in members.items()}
    await founder.call("delegate", node="steward")
    await founder.call("revoke", node="stranger")
    await founder.call("model_load", name=TOY.stem, path=str(TOY), policy="lazy")
    await founder.token("member", 3)
    key = await asyncio.to_thread(new_key, founder.directory)
    await founder.until(lambda status: any(one["host"] == "founder" for one in status["claims"]), WAIT_S)
    status, tokens = await founder.status(), (await founder.call("token_list"))["tokens"]
    return {
        "made_unix_s": int(time.time()),
        "node": status["node"]["id"],
        "mesh": status["mesh"],
        "version": status["node"]["version"],
        "key": key,
        "tokens": [one["id"] for one in tokens],
        "terms": {one["resource"]: one["term"] for one in status["claims"]},
        "members": ids,
    }


def new_key(directory: Path) -> str:
    """An API key as `meshd key create` makes it."""
    argv = [sys.executable, "-m", "meshd", "key", "create", "laptop", "--data-dir", str(directory), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=WAIT_S, check=True)
    return str(json.loads(done.stdout)["key"])


async def make(folder: Path) -> None:
    """Write what a founder and one of its members keep, and `expected.json` beside them."""
    with tempfile.TemporaryDirectory() as scratch:
        agents = local_agents(Path(scratch))
        async with agents.start("founder", ["--model", "echo:parrot", "--no-mdns"]) as founder:
            token = await founder.token("member", 2)
            async with (
                agents.start("steward", ["--join", token, "--no-mdns"]) as steward,
                agents.start("stranger", ["--join", token, "--no-mdns"]) as stranger,
            ):
                expected = await used(founder, {"steward": steward, "stranger": stranger})
        for name in ("founder", "steward"):
            keep(Path(scratch) / name, folder / name)
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def keep(source: Path, target: Path) -> None:
    """Copy what belongs to the format, without this machine's paths."""
    target.mkdir(parents=True)
    for name in KEPT:
        if (source / name).exists():
            shutil.copy(source / name, target / name)
    shelf = target / "models.json"
    if shelf.exists():
        shelf.write_text(re.sub(re.escape(str(TOY)), ELSEWHERE, shelf.read_text()))


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1])))
