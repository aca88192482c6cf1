"""How a file can draft for a model: which of llama-server's ways fits the two, or why none does.

A smaller model of the same vocabulary drafts as it is; a block drafter was made for one model, whose layers it reads
while that computes. What llama.cpp tells them apart by is in its common/speculative.cpp; whether a draft pays is
`llm.engines.trial`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from llm.draft_architectures import (
    GIVES_LAST_LAYER,
    GIVES_LAST_STATE,
    GIVES_LAYERS,
    HAS_HEADS,
    HAS_ONE_HEAD,
    READ_IN,
)
from llm.gguf import ModelFile
from llm.vocabulary import why_no_draft

DraftKind = Literal["draft-simple", "draft-eagle3", "draft-mtp", "draft-dflash", "draft-dspark"]

LARGEST_SHARE = 0.5
"""Of the model's bytes, for a model that drafts: a token of it takes that share of the model's own time, and three of
four tokens would have to stand for a draft of four to be worth it."""
EAGLE_LAYERS = 3
OTHER_WIDTHS = {"eagle3": "target_hidden_size", "gemma4-assistant": "embedding_length_out"}
"""What a drafter calls the width of its model's layers where that need not be its own."""


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
    return has_heads(model) and not why_no_heads(model)


def why_no_heads(model: ModelFile) -> str:
    """Why llama.cpp does not draft by the layers for further tokens that a file has; empty where it does."""
    heads = _number(model, "nextn_predict_layers")
    if not has_heads(model) or not heads:
        return "it has no layers that predict further tokens"
    if model.architecture not in HAS_ONE_HEAD | HAS_HEADS:
        return f"llama.cpp {READ_IN} does not compute the heads of {model.architecture}"
    if heads > 1 and model.architecture not in HAS_HEADS:
        return f"it has {heads} heads, of {model.architecture} llama.cpp {READ_IN} computes one at most"
    return ""


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
        case "gemma4-assistant":
            return "draft-mtp"
        case _:
            return "draft-mtp" if has_heads(draft) and _is_head_alone(draft) else "draft-simple"


def has_heads(file: ModelFile) -> bool:
    """Whether layers that predict further tokens are in the file, whoever computes them."""
    last = _number(file, "block_count") - 1
    return any(tensor.name == f"blk.{last}.nextn.eh_proj.weight" for tensor in file.tensors)


def _is_head_alone(file: ModelFile) -> bool:
    """Whether the heads are all there is: a whole model with heads drafts as any model does."""
    return not any(tensor.name.startswith("blk.0.") for tensor in file.tensors)


def _why_not_its_block(model: ModelFile, draft: ModelFile) -> str:
    """Why `model` is not the one that a drafter of further tokens was made for; empty when it may be."""
    match draft.architecture:
        case "eagle3" | "dflash":
            wrong = _why_incomplete(draft) or _why_not_its_layers(model, draft)
        case "gemma4-assistant":
            # It computes with what its model keeps of the text.
            wrong = "" if model.architecture == "gemma4" else f"it drafts for gemma4, not for {model.architecture}"
        case _:
            wrong = why_no_heads(draft)
            if not wrong and model.architecture != draft.architecture:
                wrong = f"it is the head of a {draft.architecture}, the model is a {model.architecture}"
    return wrong or _why_not_its_width(model, draft)


def _why_incomplete(draft: ModelFile) -> str:
    """What llama.cpp stops at in a drafter that reads its model's layers."""
    read = _layers_read(draft)
    if draft.architecture == "eagle3" and (len(read) != EAGLE_LAYERS or _number(draft, "block_count") != 1):
        return f"an EAGLE-3 drafter has one layer and reads {EAGLE_LAYERS} of its model's, it reads {len(read)}"
    if draft.architecture == "dflash" and "tokenizer.ggml.mask_token_id" not in draft.metadata:
        return "it does not say which token stands for the ones to be drafted (tokenizer.ggml.mask_token_id)"
    return "" if read else "it does not say which of its model's layers it reads (target_layers)"


def _why_not_its_layers(model: ModelFile, draft: ModelFile) -> str:
    if model.architecture not in GIVES_LAYERS:
        return f"llama.cpp {READ_IN} hands no layers of {model.architecture} to a drafter"
    layers = _number(model, "block_count") - _number(model, "nextn_predict_layers")
    last = int(max(_layers_read(draft)))
    if last > layers:
        return f"it reads the model's layer {last}, which has {layers}: it was made for another model"
    gives_last = GIVES_LAST_STATE if draft.architecture == "eagle3" else GIVES_LAST_LAYER
    if last == layers and model.architecture not in gives_last:
        return f"it reads what leaves the last layer, which llama.cpp {READ_IN} does not give of {model.architecture}"
    return ""


def _why_not_its_width(model: ModelFile, draft: ModelFile) -> str:
    width = _number(model, "embedding_length")
    expected = _number(draft, OTHER_WIDTHS.get(draft.architecture, "embedding_length"))
    if expected and expected != width:
        return f"it expects {expected} values of each of the model's layers, which give {width}"
    return ""


def _layers_read(draft: ModelFile) -> tuple[float, ...]:
    return draft.lists.get(f"{draft.architecture}.target_layers", ())


def _number(file: ModelFile, key: str) -> int:
    value = file.metadata.get(f"{file.architecture}.{key}", 0)
    return int(value) if isinstance(value, int | float) else 0
