"""The model with which this node drafts for models of others: `--drafter FILE`."""

from __future__ import annotations

from pathlib import Path

from llm.draft.service import DraftService
from llm.engines.llama_arguments import LlamaServerOptions
from llm.engines.resident import Resident
from llm.gguf import BadModelFile, ModelFile, read_header
from llm.models.shelf import FILE_NAME as SHELF_NAME
from llm.models.shelf import read_shelf
from llm.residency import Policy
from llm.sessions.drafter_engine import DrafterEngine
from meshd.engines import DEFAULT_CONTEXT_TOKENS, Kitchen
from meshd.model_needs import makeup_of

CONVERSATIONS = 16
"""In its context at a time; who asked longest ago is read anew when it asks again."""


def make_drafter(kitchen: Kitchen) -> DraftService | None:
    """What `--drafter` asks for, not started; None where it asks for nothing. Raises BadModelFile."""
    wanted = kitchen.config.drafter
    if not wanted:
        return None
    file = _find(wanted, kitchen.directory.root)
    name = file.paths[0].stem
    options = LlamaServerOptions(
        model=file.paths[0],
        name=name,
        log=kitchen.directory.logs / f"{name}.drafter.log",
        context_tokens=max(256, min(file.context_length, DEFAULT_CONTEXT_TOKENS) // CONVERSATIONS),
        slots=CONVERSATIONS,
        threads=kitchen.config.threads or None,
    )
    resident = Resident(
        f"{name} (drafter)",
        make=lambda: DrafterEngine(options, kitchen.launcher),
        need_bytes=kitchen.need_bytes(file, options),
        slots=CONVERSATIONS,
        policy=Policy.PINNED,
        makeup=makeup_of(file, options, in_ram=kitchen.memory.is_ram),
    )
    return DraftService(name, file.vocabulary_digest, kitchen.residence.add(resident))


def _find(wanted: str, root: Path) -> ModelFile:
    path = Path(wanted).expanduser()
    if not path.is_file():
        shelved = read_shelf(root / SHELF_NAME).find(wanted)
        if shelved is None or not shelved.paths:
            raise BadModelFile(
                f"--drafter {wanted}: there is no such file, nor a model of that name on this node; expected a small "
                "GGUF file of the same vocabulary as the models it shall draft for"
            )
        path = Path(shelved.paths[0])
    return read_header(path.resolve())
