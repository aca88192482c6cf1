"""Which build of llama.cpp a host runs, and whether two may split a model: RPC is safe within one build only."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import msgspec

from llm.engines import child_log
from llm.engines.interface import Launcher
from llm.engines.llama_binary import EngineMissing, find_rpc_server
from transport.wire import ShortText

ASK_GGML = Path(__file__).with_name("ask_ggml.py")
ASK_S = 30.0


class EngineBuild(msgspec.Struct, frozen=True):
    """ggml, commit: as ggml says.  operations: GGML_OP_COUNT, by which graphs on the wire are numbered."""

    ggml: ShortText
    commit: ShortText
    operations: Annotated[int, msgspec.Meta(ge=1, le=1000)]

    def __str__(self) -> str:
        return f"ggml {self.ggml} ({self.commit}, {self.operations} operations)"


def why_not_together(one: EngineBuild, other: EngineBuild) -> str:
    """Why these two cannot split a model; empty when they can. Their GPUs and how each was compiled do not matter."""
    if (one.ggml, one.operations) == (other.ggml, other.operations):
        return ""
    return f"{one} and {other} do not understand each other; install the same version of meshd and its engine on both"


async def read_build(binary: Path | None, launcher: Launcher, log: Path) -> EngineBuild:
    """The build of the llama-server at `binary`, None for the usual one. Raises EngineMissing."""
    found = find_rpc_server(binary)
    if found.library_dir is None:
        raise EngineMissing(
            f"the libraries of {found.path} are not in lib/ beside its folder, so its version is unknown and it takes "
            "no part in splits; use the engine of the llm extra, or name one that was installed whole"
        )
    start = child_log.size_bytes(log)
    argv = [sys.executable, "-I", "-S", str(ASK_GGML), str(found.library_dir)]
    try:
        async with (
            asyncio.timeout(ASK_S),
            launcher.start(argv, {"LD_LIBRARY_PATH": str(found.library_dir)}, log) as child,
        ):
            await child.wait()
        return msgspec.convert(json.loads("".join(child_log.last_lines(log, 1, start))), EngineBuild)
    except (OSError, TimeoutError, ValueError, msgspec.ValidationError) as error:
        raise EngineMissing(f"cannot tell the version of {found.path}: {error} (see {log})") from error
