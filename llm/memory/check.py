"""Compares, after a load, what was predicted with what the engine says it allocated. It reads files: use a thread."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from llm.gguf import BadModelFile, ModelFile, read_header
from llm.memory.command_line import Command, read_command_line
from llm.memory.need import Need, need
from llm.memory.reported import Reported, read_reported
from llm.memory.shape import UnknownShape

logger = logging.getLogger("meshd.llm")

MIB = 1 << 20
WORTH_A_WARNING = 0.05


@dataclass(frozen=True, slots=True)
class MemoryCheck:
    """predicted: as it was before the load, no margin in it.  reported: by the engine."""

    predicted: Need
    reported: Reported

    @property
    def error(self) -> float:
        """How far the prediction was off, as a share of what was reported; above 0 it was too high."""
        return self.predicted.predicted / self.reported.total - 1


def predict(argv: Sequence[str], own_devices: int = 0) -> Need:
    """What llama-server will allocate when started with `argv`. Raises BadModelFile, UnknownShape, ValueError.

    own_devices: GPUs of this host that the engine uses, besides RPC servers.
    """
    command = read_command_line(argv, own_devices)
    file = read_header(command.model)
    return need(
        file,
        command.settings,
        command.shares,
        draft=None if command.draft is None else read_header(command.draft),
        drafts_on_host=command.drafts_on_host,
        projector=None if command.projector is None else read_header(command.projector),
        host_layers=_host_layers(command, file),
    )


def _host_layers(command: Command, file: ModelFile) -> int:
    layers = file.metadata.get(f"{file.architecture}.block_count")
    if command.gpu_layers is None or command.gpu_layers < 0 or not isinstance(layers, int):
        return 0
    return max(0, layers + 1 - command.gpu_layers)


def _own_devices(reported: Reported) -> int:
    """How many devices of this host hold something; host memory has names that begin or end like these."""
    names = [name for name in reported.of_device if not name.startswith(("CPU", "RPC")) and not name.endswith("_Host")]
    return len(names)


def check(name: str, argv: Sequence[str], log: str) -> MemoryCheck | None:
    """Compare and say so in the agent's log; None where either side is not known.

    name: of the model.  log: what the engine wrote since it was started.
    """
    reported = read_reported(log)
    if reported is None or not reported.total:
        logger.debug("model %s: its engine does not say what it allocated", name)
        return None
    try:
        result = MemoryCheck(predict(argv, _own_devices(reported)), reported)
    except (BadModelFile, UnknownShape, ValueError) as reason:
        logger.info("model %s: memory was not predicted: %s", name, reason)
        return None
    level = logging.WARNING if abs(result.error) > WORTH_A_WARNING else logging.INFO
    logger.log(
        level,
        "model %s: %.1f MiB predicted, %.1f MiB allocated by the engine (%+.1f %%)",
        name,
        result.predicted.predicted / MIB,
        reported.total / MIB,
        100 * result.error,
    )
    return result
