"""How a file can draft for a model: which of llama-server's ways fits the two, or why none does.

A smaller model of the same vocabulary drafts as it is; a block drafter was made for one model, whose layers it reads
while that computes. What llama.cpp tells them apart by is in its common/speculative.cpp; whether a draft pays is
`llm.engines.trial`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from llm.gguf import ModelFile
from llm.vocabulary import why_no_draft

DraftKind = Literal["draft-simple", "draft-eagle3", "draft-mtp", "draft-dflash", "draft-dspark"]

LARGEST_SHARE = 0.5
"""Of the model's bytes, for a model that drafts: a token of it takes that share of the model's own time, and three of
four tokens would have to stand for a draft of four to be worth it."""


@dataclass(frozen=True, slots=True)
class Pair:
    """kind: llama-server's word for it; None where the two do not fit, for `reason`.  share: of the model's bytes."""

    kind: DraftKind | None
    reason: str
    share: float = 0.0


def pair(model: ModelFile, draft: ModelFile) -> Pair:
    """How `draft` can draft for `model`. Raises OSError."""
    if draft.paths == model.paths:
        return Pair(None, "it is the model itself")
    kind = _own_kind(draft)
    wrong = _why_not_its_block(model, draft) if kind != "draft-simple" else ""
    # A block drafter without a vocabulary of its own has its model's.
    if not wrong and (draft.tokens.items or kind == "draft-simple"):
        wrong = why_no_draft(model, draft)
    if wrong:
        return Pair(None, wrong)
    share = draft.file_bytes / model.file_bytes
    return Pair(kind, f"{kind}: {share:.0%} of the model's bytes, the same vocabulary", share)


def has_own_heads(model: ModelFile) -> bool:
    """Whether the model brings layers that predict further tokens, for `draft-mtp` without another file."""
    return _has_heads(model)


def best(model: ModelFile, others: Sequence[ModelFile]) -> tuple[ModelFile, Pair] | None:
    """Which of `others` should draft: one made for this model before any other, then the smallest. Raises OSError.

    One that is too large to pay is left out.
    """
    found = [(one, pair(model, one)) for one in others]
    fitting = [(one, how) for one, how in found if how.kind is not None and how.share <= LARGEST_SHARE]
    return min(fitting, key=lambda it: (it[1].kind == "draft-simple", it[0].file_bytes), default=None)


def _own_kind(draft: ModelFile) -> DraftKind:
    """What the file was made for."""
    match draft.architecture:
        case "eagle3":
            return "draft-eagle3"
        case "dflash":
            # DSpark is DFlash with a Markov head.
            has_markov = any(tensor.name == "markov_w1.weight" for tensor in draft.tensors)
            return "draft-dspark" if has_markov else "draft-dflash"
        case _:
            return "draft-mtp" if _has_heads(draft) and _is_head_alone(draft) else "draft-simple"


def _has_heads(file: ModelFile) -> bool:
    last = _number(file, "block_count") - 1
    return any(tensor.name == f"blk.{last}.nextn.eh_proj.weight" for tensor in file.tensors)


def _is_head_alone(file: ModelFile) -> bool:
    """Whether the heads are all there is: a whole model with heads drafts as any model does."""
    return not any(tensor.name.startswith("blk.0.") for tensor in file.tensors)


def _why_not_its_block(model: ModelFile, draft: ModelFile) -> str:
    """Why `model` is not the one that a block drafter was made for; empty when it may be."""
    layers = _number(model, "block_count")
    read = draft.lists.get(f"{draft.architecture}.target_layers", ())
    if read and max(read) > layers:
        return f"it reads the model's layer {int(max(read))}, which has {layers}: it was made for another model"
    width = _number(model, "embedding_length")
    # DFlash has its model's width, EAGLE-3 says which it expects.
    own = "target_hidden_size" if draft.architecture == "eagle3" else "embedding_length"
    expected = _number(draft, own)
    if expected and expected != width:
        return f"it expects {expected} values of each of the model's layers, which give {width}"
    return ""


def _number(file: ModelFile, key: str) -> int:
    value = file.metadata.get(f"{file.architecture}.{key}", 0)
    return int(value) if isinstance(value, int | float) else 0
