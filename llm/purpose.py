"""What a model is for, as its file says, and how llama-server must be told. Pure.

llama-server answers `/v1/embeddings` and `/v1/rerank` only when it was started for them.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from llm.gguf import ModelFile
from llm.models.selection import is_projector

# enum llama_pooling_type of llama.h: what becomes of a text's tokens at the end. 0 keeps each, 1 to 3 make one vector.
POOLING_VECTORS = (1, 2, 3)
POOLING_RANK = 4


class Purpose(Enum):
    """What clients may ask of a model."""

    GENERATE = "generate"
    EMBED = "embed"
    RERANK = "rerank"


def purpose_of(file: ModelFile) -> Purpose:
    """By the file's pooling type: generating models have none."""
    pooling = file.metadata.get(f"{file.architecture}.pooling_type")
    if pooling == POOLING_RANK:
        return Purpose.RERANK
    return Purpose.EMBED if pooling in POOLING_VECTORS else Purpose.GENERATE


def purpose_arguments(file: ModelFile, projector: Path | None) -> tuple[str, ...]:
    """What llama-server is started with. projector: the file that lets the model see or hear, where there is one."""
    match purpose_of(file):
        case Purpose.EMBED:
            # Such a text is read in one piece: it may be as long as the batch.
            return ("--embedding", "--ubatch-size", "2048", "--batch-size", "2048")
        case Purpose.RERANK:
            return ("--reranking", "--ubatch-size", "2048", "--batch-size", "2048")
        case Purpose.GENERATE:
            return ("--mmproj", str(projector)) if projector else ()


def find_projector(model: Path) -> Path | None:
    """The one `mmproj*.gguf` beside the model, as repositories of such models ship it; None where none or several are.

    Reads the directory.
    """
    beside = [path for path in model.parent.glob("*.gguf") if is_projector(path.name) and path != model]
    return beside[0] if len(beside) == 1 else None
