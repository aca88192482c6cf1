"""What a GGUF file says about the computation: layers, heads, windows, widths. Pure.

Defaults are llama.cpp's own (src/llama-model.cpp, src/models/*.cpp), so that what it would assume is assumed here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from llm.gguf import ModelFile, Tensor

# Every how many layers one sees the whole context, where the file does not say. 0: no sliding window at all.
FULL_LAYER_EVERY = {"gemma2": 2, "gemma3": 6, "gpt-oss": 2, "cohere2": 4, "exaone4": 4, "olmo2": 4, "gemma3n": 5}
# llama.cpp reads phi3's window and does not use it.
WINDOW_IGNORED = frozenset({"phi3", "phimoe", "llama", "qwen2", "qwen3", "qwen2moe", "qwen3moe", "mistral"})
DEFAULT_WINDOW = {"gemma2": 4096, "exaone4": 4096}
# Parts of a layer whose computation is not outlined here; their weights and caches are still counted.
NOT_OUTLINED = ("ssm_", "attn_kv_a_mqa", "attn_q_a", "time_mix", "shortconv", "indexer", "attn_compressor")
MAX_LAYERS, MAX_EXPERTS_USED = 4096, 512
LAYER = re.compile(r"blk\.(\d+)\.(.+)\Z")


class UnknownShape(Exception):
    """The file does not say enough to predict memory. The message names what is missing."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer.

    window: tokens that its attention looks back, 0 for all.  keeps_values: false where values are read out of the
    keys' cache (MLA).  state_values: float32 numbers of recurrent state for each slot.  tensors: by name within the
    layer.
    """

    heads: int
    kv_heads: int
    key_size: int
    value_size: int
    window: int
    keeps_values: bool
    state_values: int
    tensors: dict[str, Tensor]

    @property
    def key_width(self) -> int:
        return self.kv_heads * self.key_size

    @property
    def value_width(self) -> int:
        return self.kv_heads * self.value_size

    def has(self, name: str) -> bool:
        return name in self.tensors

    def rows(self, name: str) -> int:
        """How wide the output of a weight matrix is; 0 without it."""
        tensor = self.tensors.get(name)
        return tensor.shape[1] if tensor is not None and len(tensor.shape) > 1 else 0


@dataclass(frozen=True, slots=True)
class ModelShape:
    """experts_used: of each token.  centres: norms take the mean away (LayerNorm), which ggml never does in place.

    unknown_parts: parts of layers whose computation is not outlined.
    """

    architecture: str
    width: int
    vocabulary: int
    trained_tokens: int
    layers: tuple[Layer, ...]
    experts_used: int
    is_output_tied: bool
    centres: bool
    head_tensors: dict[str, Tensor]
    unknown_parts: tuple[str, ...]


def read_shape(file: ModelFile) -> ModelShape:
    """The shape of the model. Raises UnknownShape."""
    count, experts_used = _number(file, "block_count"), _number(file, "expert_used_count", 0)
    if not 0 < count <= MAX_LAYERS or experts_used > MAX_EXPERTS_USED:
        raise UnknownShape(
            f"{file.paths[0]}: expected 1 to {MAX_LAYERS} layers and at most {MAX_EXPERTS_USED} experts used, "
            f"it says {count} and {experts_used}"
        )
    head_tensors, layer_tensors = _sort_tensors(file, count)
    embedding = head_tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise UnknownShape(f"{file.paths[0]}: it has no token_embd.weight; is it a language model?")
    parts = {
        part for tensors in layer_tensors for part in NOT_OUTLINED if any(name.startswith(part) for name in tensors)
    }
    return ModelShape(
        architecture=file.architecture,
        width=embedding.shape[0],
        vocabulary=embedding.shape[1],
        trained_tokens=file.context_length,
        layers=tuple(_layer(file, index, tensors) for index, tensors in enumerate(layer_tensors)),
        experts_used=experts_used,
        is_output_tied="output.weight" not in head_tensors,
        centres=f"{file.architecture}.attention.layer_norm_epsilon" in file.metadata,
        head_tensors=head_tensors,
        unknown_parts=tuple(sorted(parts)),
    )


def _sort_tensors(file: ModelFile, layers: int) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    head: dict[str, Tensor] = {}
    of_layer: list[dict[str, Tensor]] = [{} for _ in range(layers)]
    for tensor in file.tensors:
        found = LAYER.match(tensor.name)
        if found and int(found[1]) < layers:
            of_layer[int(found[1])][found[2]] = tensor
        else:
            head[tensor.name] = tensor
    return head, of_layer


def _layer(file: ModelFile, index: int, tensors: dict[str, Tensor]) -> Layer:
    heads = _number(file, "attention.head_count", 0, at=index)
    width = _number(file, "embedding_length")
    is_windowed = _is_windowed(file, index)
    suffix = "_swa" if is_windowed and f"{file.architecture}.attention.key_length_swa" in file.metadata else ""
    usual = width // heads if heads else 0
    attends = not is_recurrent(tensors) or "attn_k.weight" in tensors
    return Layer(
        heads=heads,
        kv_heads=_number(file, "attention.head_count_kv", heads, at=index) if attends else 0,
        key_size=_number(file, f"attention.key_length{suffix}", usual),
        value_size=_number(file, f"attention.value_length{suffix}", usual),
        window=_window(file) if is_windowed else 0,
        keeps_values=f"{file.architecture}.attention.key_length_mla" not in file.metadata,
        state_values=_state_values(file) if is_recurrent(tensors) else 0,
        tensors=tensors,
    )


def is_recurrent(tensors: dict[str, Tensor]) -> bool:
    """Whether a layer with these tensors carries a state from token to token (Mamba and its kin)."""
    return any(name.startswith("ssm_") for name in tensors)


def _state_values(file: ModelFile) -> int:
    """What a Mamba-like layer carries: its convolution's last columns and its state (llama-hparams.cpp)."""
    kernel, inner = _number(file, "ssm.conv_kernel", 0), _number(file, "ssm.inner_size", 0)
    state, groups = _number(file, "ssm.state_size", 0), _number(file, "ssm.group_count", 0)
    return max(kernel - 1, 0) * (inner + 2 * groups * state) + state * inner


def _window(file: ModelFile) -> int:
    if file.architecture in WINDOW_IGNORED:
        return 0
    return _number(file, "attention.sliding_window", DEFAULT_WINDOW.get(file.architecture, 0))


def _is_windowed(file: ModelFile, index: int) -> bool:
    if not _window(file):
        return False
    key = f"{file.architecture}.attention.sliding_window_pattern"
    listed = file.lists.get(key)
    if listed is not None:
        return index < len(listed) and bool(listed[index])
    every = file.metadata.get(key, FULL_LAYER_EVERY.get(file.architecture, 0))
    return isinstance(every, int) and every > 0 and index % every < every - 1


def _number(file: ModelFile, name: str, default: int | None = None, at: int = 0) -> int:
    """A number of this architecture, or the one for layer `at` where the file lists one for each."""
    key = f"{file.architecture}.{name}"
    listed = file.lists.get(key)
    value = listed[at] if listed is not None and at < len(listed) else file.metadata.get(key, default)
    if isinstance(value, int) and 0 <= value < 1 << 40:
        return int(value)
    raise UnknownShape(f"{file.paths[0]}: expected a number for {key}, got {value!r}; the memory cannot be predicted")
