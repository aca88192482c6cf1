"""How much of this host's own memory llama-server may take for what it has read before. Pure.

Left alone it keeps up to 8 GiB of other conversations' caches in RAM, and for models that forget (sliding windows,
recurrent states) up to 32 checkpoints of each slot beside that; no engine reports either. Here both get a bound, so
that they can be counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from llm.gguf import ModelFile
from llm.memory.settings import EngineSettings, kv_bytes, sizes
from llm.memory.shape import ModelShape, UnknownShape, read_shape

MIB = 1 << 20
MOST_IN_RAM_BYTES = 512 << 20
"""Where models themselves are held in RAM: what is taken for caches is taken from them."""
MOST_BESIDE_GPU_BYTES = 8 << 30  # llama-server's own limit
SHARE_OF_RAM = 1 / 8
LEAST_CHECKPOINTS, MOST_CHECKPOINTS = 2, 32
"""Each prompt leaves two behind; 32 is llama-server's own limit."""


@dataclass(frozen=True, slots=True)
class HostCache:
    """prompts_mib: for conversations that hold no slot.  checkpoints: of each slot.  checkpoint_bytes: of one."""

    prompts_mib: int
    checkpoints: int
    checkpoint_bytes: int = 0

    @property
    def of_a_leader(self) -> HostCache:
        """No other conversations, whose caches would have to come from the workers each time one makes room."""
        return HostCache(0, LEAST_CHECKPOINTS, self.checkpoint_bytes)

    def total_bytes(self, slots: int) -> int:
        """The most that all of it will take."""
        return self.prompts_mib * MIB + slots * self.checkpoints * self.checkpoint_bytes


NO_CACHE = HostCache(0, LEAST_CHECKPOINTS)


def host_cache(file: ModelFile, settings: EngineSettings, *, in_ram: bool, ram_bytes: int = 0) -> HostCache:
    """What a model served alone may keep: at most as much again as its slots do.

    in_ram: it is computed on the CPU.  ram_bytes: what this host has, which bounds the cache beside a GPU.
    """
    try:
        shape = read_shape(file)
    except UnknownShape:
        return NO_CACHE
    most = MOST_IN_RAM_BYTES if in_ram else min(MOST_BESIDE_GPU_BYTES, int(ram_bytes * SHARE_OF_RAM))
    one_bytes = _checkpoint_bytes(shape, settings)
    checkpoints = _fitting(most // 2, one_bytes * settings.slots) if one_bytes else LEAST_CHECKPOINTS
    return HostCache(min(most, _slots_bytes(shape, settings)) // MIB, checkpoints, one_bytes)


def _fitting(room_bytes: int, each_bytes: int) -> int:
    return min(max(room_bytes // each_bytes, LEAST_CHECKPOINTS), MOST_CHECKPOINTS)


def _checkpoint_bytes(shape: ModelShape, settings: EngineSettings) -> int:
    """What one slot's layers that forget hold; 0 for a model that keeps everything."""
    total = 0
    for layer in shape.layers:
        total += 4 * layer.state_values
        if layer.window:
            total += layer.window * kv_bytes(settings.key_type, layer.key_width)
            total += layer.window * kv_bytes(settings.value_type, layer.value_width)
    return total


def _slots_bytes(shape: ModelShape, settings: EngineSettings) -> int:
    """The caches of all slots, whole context each."""
    size = sizes(settings, shape.trained_tokens)
    each = sum(
        kv_bytes(settings.key_type, layer.key_width) + kv_bytes(settings.value_type, layer.value_width)
        for layer in shape.layers
    )
    return size.streams * size.cells * each
