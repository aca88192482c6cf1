"""Writes block drafters for the model of `tiny_gguf`: of EAGLE-3's, DFlash's and DSpark's shape, with random weights.

What they propose is worth nothing; that llama-server takes them, and that answers stay what they were, is worth a test.
`cycle_model` writes some that are right.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy
from gguf import GGUFWriter

from tests.llm.tiny_gguf import add_vocabulary, vocabulary

WIDTH, HEADS, BLOCK, RANK = 64, 2, 4, 8
Kind = Literal["eagle3", "dflash", "dspark"]


def write_block_drafter(path: Path, kind: Kind, *, seed: int = 2) -> Path:
    """Write the drafter to `path` and return it."""
    dice = numpy.random.default_rng(seed)
    architecture = "eagle3" if kind == "eagle3" else "dflash"
    writer = GGUFWriter(path, architecture)
    writer.add_name("block drafter")
    writer.add_context_length(8192)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_key_length(WIDTH // HEADS)
    writer.add_value_length(WIDTH // HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_array(f"{architecture}.target_layers", [0, 1, 1] if kind == "eagle3" else [0, 1])
    writer.add_uint32(f"{architecture}.target_hidden_size", WIDTH)
    writer.add_uint32(f"{architecture}.block_size", BLOCK)
    writer.add_mask_token_id(0)
    add_vocabulary(writer, vocabulary())
    for name, shape in _shapes(kind).items():
        values = dice.normal(0.0, 0.3, shape) if len(shape) == 2 else numpy.ones(shape)
        writer.add_tensor(f"{name}.weight", values.astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _shapes(kind: Kind) -> dict[str, tuple[int, ...]]:
    # EAGLE-3's layer reads the token and what it made of the layers, beside each other.
    entering = 2 * WIDTH if kind == "eagle3" else WIDTH
    layer: dict[str, tuple[int, ...]] = dict.fromkeys(("attn_q", "attn_k", "attn_v"), (WIDTH, entering))
    layer |= {"attn_output": (WIDTH, WIDTH), "ffn_down": (WIDTH, 2 * WIDTH)}
    layer |= dict.fromkeys(("ffn_gate", "ffn_up"), (2 * WIDTH, WIDTH))
    layer |= dict.fromkeys(("attn_norm", "ffn_norm"), (WIDTH,))
    shapes: dict[str, tuple[int, ...]] = {"output_norm": (WIDTH,)}
    if kind == "eagle3":
        layer["attn_norm_2"] = (WIDTH,)
        shapes["fc"] = (WIDTH, 3 * WIDTH)
    else:
        layer |= dict.fromkeys(("attn_q_norm", "attn_k_norm"), (WIDTH // HEADS,))
        shapes |= {"fc": (WIDTH, 2 * WIDTH), "enc.output_norm": (WIDTH,)}
    if kind == "dspark":
        shapes |= {name: (len(vocabulary()), RANK) for name in ("markov_w1", "markov_w2")}
    return shapes | {f"blk.0.{name}": shape for name, shape in layer.items()}
