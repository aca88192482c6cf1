"""What a command loads: itself, and none of what only the agent or other commands need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LOADED = """
import json, sys
from meshd.cli.app import main
sys.argv = ["meshd", *sys.argv[1:]]
try:
    main()
except SystemExit:
    pass
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules} | set(sys.modules))), file=sys.stderr)
"""

OF_THE_AGENT = {"aioquic", "starlette", "uvicorn", "uvloop", "prometheus_client", "zeroconf", "psutil", "meshd.node"}
OF_COMPUTING = {"numpy", "numba", "cupy", "llama_cpp", "torch", "gguf", "huggingface_hub"}
OF_OTHER_COMMANDS = {"cryptography", "forms", "llm", "gossip", "rich", "pydantic", "meshd.cli.models", "meshd.cli.chat"}


def loaded_by(*words: str) -> set[str]:
    """Modules, and packages, of a process that ran this command."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words], capture_output=True, text=True, timeout=250, check=True
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_help_loads_every_command_and_none_of_the_agent() -> None:
    loaded = loaded_by("--help")
    assert {"meshd.cli.models", "meshd.cli.status"} <= loaded
    assert loaded & (OF_THE_AGENT | OF_COMPUTING) == set()


@pytest.mark.parametrize("words", [("version",), ("status", "--json"), ("token", "list"), ("leave",)])
def test_a_command_loads_what_it_needs(tmp_path: Path, words: tuple[str, ...]) -> None:
    options = () if words == ("version",) else ("--data-dir", str(tmp_path))
    assert loaded_by(*words, *options) & (OF_THE_AGENT | OF_COMPUTING | OF_OTHER_COMMANDS) == set()
