"""Writes `cycle_model`'s model of Gemma 4's shape, and an assistant that drafts for it.

An assistant keeps nothing of the text itself: it looks at what the model has kept, and has its own, narrower state and
its own output. This one has nothing to look up: the letter at hand says which comes.
"""

from __future__ import annotations

from pathlib import Path

import numpy
from gguf import GGUFWriter

from tests.llm import cycle_model
from tests.llm.cycle_model import NO_BALLAST, WIDTH, Matrix

NARROW = 32
IS_WINDOWED = [True, False]


def write_gemma_cycle(path: Path) -> Path:
    """Write the model to `path` and return it."""
    writer = _writer(path, "gemma4", "cycle", WIDTH)
    writer.add_uint32("gemma4.embedding_length_per_layer_input", 0)
    _add_layers(writer, WIDTH, more=("attn_k", "attn_v", "attn_k_norm"))
    ones = numpy.ones(WIDTH)
    output = cycle_model.output()
    cycle_model.add(writer, {"token_embd": cycle_model.embedding(), "output_norm": ones, "output": output})
    return cycle_model.close(writer, path)


def write_gemma_assistant(path: Path) -> Path:
    """Write its assistant to `path` and return it."""
    writer = _writer(path, "gemma4-assistant", "cycle assistant", NARROW)
    writer.add_uint32("gemma4-assistant.embedding_length_out", WIDTH)
    writer.add_nextn_predict_layers(len(IS_WINDOWED))
    _add_layers(writer, NARROW, more=("layer_output_scale",))
    narrows = numpy.eye(NARROW, WIDTH)
    joining = numpy.concatenate([narrows, numpy.zeros((NARROW, WIDTH))], axis=1)
    # What it calls its embedding is its output: letters come to it by the model's.
    says = cycle_model.output()[:, :NARROW]
    cycle_model.add(writer, {"token_embd": says, "output_norm": numpy.ones(NARROW)})
    cycle_model.add(writer, {"nextn.pre_projection": joining, "nextn.post_projection": narrows.T})
    return cycle_model.close(writer, path)


def _writer(path: Path, architecture: str, name: str, width: int) -> GGUFWriter:
    writer = cycle_model.begin(path, architecture, name, len(IS_WINDOWED), NO_BALLAST, width)
    writer.add_sliding_window(512)
    writer.add_sliding_window_pattern(IS_WINDOWED)
    writer.add_uint32(f"{architecture}.attention.key_length_swa", WIDTH)
    writer.add_uint32(f"{architecture}.attention.value_length_swa", WIDTH)
    cycle_model.add(writer, {"rope_freqs": numpy.ones(WIDTH // 2)})
    return writer


def _add_layers(writer: GGUFWriter, width: int, more: tuple[str, ...]) -> None:
    """Layers that add nothing to the residual stream."""
    shapes: dict[str, tuple[int, ...]] = {"attn_q": (WIDTH, width), "attn_output": (width, WIDTH)}
    shapes |= {"ffn_gate": (NO_BALLAST, width), "ffn_up": (NO_BALLAST, width), "ffn_down": (width, NO_BALLAST)}
    shapes |= dict.fromkeys(("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"), (width,))
    shapes |= {"attn_q_norm": (WIDTH,)}
    others = {"attn_k": (WIDTH, width), "attn_v": (WIDTH, width), "attn_k_norm": (WIDTH,), "layer_output_scale": (1,)}
    shapes |= {name: others[name] for name in more}
    layer: dict[str, Matrix] = {
        name: numpy.zeros(shape) if len(shape) > 1 else numpy.ones(shape) for name, shape in shapes.items()
    }
    for number in range(len(IS_WINDOWED)):
        cycle_model.add(writer, {f"blk.{number}.{name}": values for name, values in layer.items()})
