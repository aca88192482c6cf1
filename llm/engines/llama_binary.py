"""Finds the llama-server to run: the one the configuration names, the one of the llm extra, or the one on PATH.

Its `ggml-rpc-server` is the one beside it: RPC has no compatibility across versions.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "llama-server"
RPC_PROGRAM = "ggml-rpc-server"


class EngineMissing(Exception):
    """There is no usable llama-server. The message says where it was looked for and what to do."""


@dataclass(frozen=True, slots=True)
class LlamaBinary:
    """library_dir: where its shared libraries lie; None when it finds them itself."""

    path: Path
    library_dir: Path | None


def find_llama_server(configured: Path | None = None, site_packages: Path | None = None) -> LlamaBinary:
    """The llama-server to run. Raises EngineMissing.

    configured: use this one or none.  site_packages: of this environment unless a test says otherwise.
    """
    if configured is not None:
        if not _is_program(configured):
            raise EngineMissing(
                f"the configured llama-server {configured} is not an executable file that this user may reach; correct "
                "its path, or open its folders"
            )
        return LlamaBinary(configured, _library_dir(configured))
    packages = site_packages or Path(sysconfig.get_path("purelib"))
    bundled = packages / "bin" / PROGRAM
    if _is_program(bundled):
        return LlamaBinary(bundled, _library_dir(bundled))
    on_path = shutil.which(PROGRAM)
    if on_path is not None:
        return LlamaBinary(Path(on_path), None)
    raise EngineMissing(
        f"no {PROGRAM} found: not at {bundled}, not on PATH. Install the engine with `uv sync --extra llm` "
        f"(compiles llama.cpp once, about ten CPU-minutes), or name one in the configuration"
    )


def find_rpc_server(configured: Path | None = None, site_packages: Path | None = None) -> LlamaBinary:
    """The ggml-rpc-server of the llama-server that `find_llama_server` finds. Raises EngineMissing."""
    server = find_llama_server(configured, site_packages)
    beside = server.path.with_name(RPC_PROGRAM)
    if not _is_program(beside):
        raise EngineMissing(
            f"no {RPC_PROGRAM} beside {server.path}: this build of llama.cpp has no RPC, so its host can take no part "
            f"in a split; build it with -DGGML_RPC=ON and -DLLAMA_TOOLS_INSTALL=ON, as `uv sync --extra llm` does"
        )
    return LlamaBinary(beside, server.library_dir)


def _is_program(path: Path) -> bool:
    # Not `path.is_file`: it raises for what lies in a folder that is closed to us.
    return os.path.isfile(path) and os.access(path, os.X_OK)  # noqa: PTH113


def _library_dir(program: Path) -> Path | None:
    # The wheel's programs have no run path, so they find lib/ beside bin/ only when told.
    beside = program.resolve().parent.parent / "lib"
    return beside if any(beside.glob("libllama.*")) else None
