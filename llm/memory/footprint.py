"""Predicts what an engine will allocate for a model, item by item and device by device. Pure.

The file decides the weights, `settings` the caches, `outline` and `graph` the compute buffer.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

from llm.gguf import ModelFile, Tensor
from llm.memory.graph import buffer_bytes
from llm.memory.outline import Placement, outline
from llm.memory.settings import EngineSettings, Sizes, kv_bytes, pad, sizes, window_cells
from llm.memory.shape import ModelShape, read_shape

HOST_ALIGNMENT = 32
DEVICE_ALIGNMENT = 128
PIPELINE_COPIES = 4  # GGML_SCHED_MAX_COPIES
# ggml/src/ggml-cpu/repack.cpp on a CPU with AVX2: types that are copied into another order, rows a multiple of 8.
REPACKED = frozenset({2, 12, 20, 39})
HOST_NAMES = frozenset(
    {"token_embd.weight", "per_layer_token_embd.weight", "token_types.weight", "position_embd.weight"}
)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes on one device. name: "host", or which of the devices asked for."""

    name: str
    weights: int = 0
    cache: int = 0
    compute: int = 0
    output: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.compute + self.output


def footprint(
    file: ModelFile, settings: EngineSettings, shares: tuple[float, ...] = (), host_layers: int = 0
) -> tuple[Footprint, ...]:
    """What each device and, last, the host will hold.

    shares: of the layers, one for each device besides the host; none for a host that computes by itself.
    host_layers: how many of the first layers stay with the host all the same. Raises UnknownShape.
    """
    shape = read_shape(file)
    size = sizes(settings, shape.trained_tokens)
    place = placement(len(shape.layers), shares, host_layers)
    alignments = (*(DEVICE_ALIGNMENT for _ in shares), HOST_ALIGNMENT)
    copies = PIPELINE_COPIES if len(shares) > 1 and not host_layers else 1
    compute = buffer_bytes(outline(shape, settings, size, place), alignments, copies)
    weights = _weights(shape, settings, place)
    caches = _caches(shape, settings, size, place)
    output = 4 * shape.vocabulary * max(settings.slots, 1)
    names = (*(f"device {number}" for number in range(len(shares))), "host")
    return tuple(
        Footprint(name, weights[at], caches[at], compute[at], output if at == place.host else 0)
        for at, name in enumerate(names)
    )


def placement(layers: int, shares: tuple[float, ...], host_layers: int = 0) -> Placement:
    """Which device gets which layers: llama.cpp's `--tensor-split`, the last step counted as a layer."""
    host, offloaded = len(shares), layers + 1 - host_layers
    if not shares:
        return Placement((0,) * layers, 0, 0)
    sums = [_single(part) for part in accumulate(shares)]
    ends = [_single(part / sums[-1]) for part in sums]

    def device_of(step: int) -> int:
        if step < host_layers:
            return host
        return min(bisect_right(ends, _single((step - host_layers) / offloaded)), host - 1)

    return Placement(tuple(device_of(layer) for layer in range(layers)), device_of(layers), host)


def _single(value: float) -> float:
    """In single precision, as llama-model.cpp computes: a share may end exactly between two layers."""
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded


def _weights(shape: ModelShape, settings: EngineSettings, place: Placement) -> list[int]:
    held = [0] * (place.host + 1)
    mapped: dict[int, list[int]] = {}
    for tensor, device in _placed(shape, place):
        if device != place.host:
            held[device] += pad(tensor.size_bytes, DEVICE_ALIGNMENT)
        elif settings.repacks and _is_repacked(tensor):
            held[device] += pad(tensor.size_bytes, HOST_ALIGNMENT)
        else:
            span = mapped.setdefault(tensor.part, [tensor.offset, 0])
            span[0] = min(span[0], tensor.offset)
            span[1] = max(span[1], tensor.offset + tensor.size_bytes)
    # What stays on the host is mapped from the file, from its first such tensor to its last.
    held[place.host] += sum(end - start for start, end in mapped.values())
    return held


def _placed(shape: ModelShape, place: Placement) -> list[tuple[Tensor, int]]:
    found = [(tensor, place.layers[at]) for at, layer in enumerate(shape.layers) for tensor in layer.tensors.values()]
    for name, tensor in shape.head_tensors.items():
        found.append((tensor, place.host if name in HOST_NAMES else place.output))
    if shape.is_output_tied and place.output != place.host:
        # The embedding serves as the output matrix, and a device needs a copy of its own.
        found.append((shape.head_tensors["token_embd.weight"], place.output))
    return found


def _is_repacked(tensor: Tensor) -> bool:
    return (
        tensor.kind in REPACKED and tensor.name not in HOST_NAMES and len(tensor.shape) > 1 and tensor.shape[1] % 8 == 0
    )


def _caches(shape: ModelShape, settings: EngineSettings, size: Sizes, place: Placement) -> list[int]:
    held = [0] * (place.host + 1)
    widest = max(layer.value_width for layer in shape.layers)
    for at, layer in enumerate(shape.layers):
        cells = window_cells(settings, size, layer.window) if layer.window else size.cells
        held[place.layers[at]] += 4 * layer.state_values * settings.slots
        # Without flash attention values lie across, and every layer takes the room of the widest.
        value_width = layer.value_width if settings.flash_attention else widest
        held[place.layers[at]] += size.streams * cells * kv_bytes(settings.key_type, layer.key_width)
        if layer.keeps_values:
            held[place.layers[at]] += size.streams * cells * kv_bytes(settings.value_type, value_width)
    return held
