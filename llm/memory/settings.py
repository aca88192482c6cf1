"""What an engine is told that its memory depends on, and what llama-server makes of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llm.tensor_types import tensor_bytes

KvType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
KV_TYPES: dict[KvType, int] = {"f32": 0, "f16": 1, "bf16": 30, "q8_0": 8, "q5_1": 7, "q5_0": 6, "q4_1": 3, "q4_0": 2}
KV_TYPES["iq4_nl"] = 20
PADDING_CELLS = 256  # llama-context.cpp and llama-kv-cache-iswa.cpp both round up to this


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The memory-relevant part of llama-server's command line.

    context_tokens: all slots together, 0 for what the model was trained with, for each.  drafts: tokens that a draft
    model may propose at once.  is_unified: the slots share one cache.  repacks: quantised weights are copied for this
    CPU (`--no-repack` prevents it).
    """

    context_tokens: int = 0
    slots: int = 4
    key_type: KvType = "f16"
    value_type: KvType = "f16"
    flash_attention: bool = True
    batch_tokens: int = 2048
    micro_batch_tokens: int = 512
    is_unified: bool = False
    whole_window: bool = False
    drafts: int = 0
    repacks: bool = True


@dataclass(frozen=True, slots=True)
class Sizes:
    """What llama-server makes of its settings. cells: of one stream.  streams: caches beside one another."""

    cells: int
    streams: int
    batch_tokens: int
    tokens: int
    outputs: int


def sizes(settings: EngineSettings, trained_tokens: int) -> Sizes:
    """Round and bound the settings as llama-context.cpp does."""
    streams = 1 if settings.is_unified else settings.slots
    asked = settings.context_tokens or trained_tokens * streams
    batch = min(asked, settings.batch_tokens)
    micro_batch = min(batch, settings.micro_batch_tokens or batch)
    padded = pad(asked, PADDING_CELLS)
    cells = padded if settings.is_unified else pad(padded // streams, PADDING_CELLS)
    tokens = pad(min(cells * streams, micro_batch), settings.slots)
    outputs = min(batch, settings.slots * (1 + settings.drafts))
    return Sizes(cells, streams, batch, tokens, min(tokens, max(outputs, 1)))


def window_cells(settings: EngineSettings, whole: Sizes, window: int) -> int:
    """Cells of the cache of sliding-window layers, of one stream (llama-kv-cache-iswa.cpp)."""
    if settings.whole_window:
        return whole.cells
    micro_batch = min(whole.batch_tokens, settings.micro_batch_tokens or whole.batch_tokens)
    needed = window * (settings.slots if settings.is_unified else 1) + micro_batch
    return pad(min(whole.cells, needed), PADDING_CELLS)


def kv_bytes(kind: KvType, elements: int) -> int:
    """Bytes of `elements` values of a cache type."""
    return tensor_bytes(KV_TYPES[kind], elements)


def pad(value: int, step: int) -> int:
    """`value` rounded up to a multiple of `step`."""
    return -(-value // step) * step
