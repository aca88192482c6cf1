"""The agent's half of the process that drafts for models of other nodes."""

from __future__ import annotations

import sys

from llm.engines.llama_arguments import QUIET_ABORT
from llm.engines.llama_server import LlamaServerEngine
from llm.memory.check import MemoryCheck
from llm.sessions.names import KEY_VARIABLE


class DrafterEngine(LlamaServerEngine):
    """An `Engine` on a child that drafts. Its context is that of all conversations together, one for each slot."""

    kind = "drafter"
    program = "the drafter"

    def _command(self, key: str) -> tuple[list[str], dict[str, str]]:
        options = self._options
        argv = [sys.executable, "-m", "llm.sessions.drafter_child", "--model", str(options.model)]
        argv += ["--name", options.name, "--cells", str(options.context_tokens * options.slots)]
        argv += ["--sequences", str(options.slots), "--kv-type", options.kv_type]
        argv += ["--gpu-layers", str(options.gpu_layers)]
        if options.threads is not None:
            argv += ["--threads", str(options.threads)]
        return argv, {**QUIET_ABORT, KEY_VARIABLE: key}

    def _check_memory(self, argv: list[str], log_start: int) -> MemoryCheck | None:
        return None  # the child prints no sums
