"""Writes block drafters for the model of `tiny_gguf`: of DFlash's and DSpark's shape, with random weights.

What they propose is worth nothing; that llama-server takes them, and that answers stay what they were, is worth a test.
"""

from __future__ import annotations

from pathlib import Path

import numpy
from gguf import GGUFWriter

from tests.llm.tiny_gguf import add_vocabulary, vocabulary

WIDTH, HEADS, BLOCK, RANK = 64, 2, 4, 8
TARGET_LAYERS = (0, 1)


def write_block_drafter(path: Path, *, has_markov_head: bool = False, seed: int = 2) -> Path:
    """Write the drafter to `path` and return it. has_markov_head: DSpark's, else DFlash's."""
    dice = numpy.random.default_rng(seed)
    writer = GGUFWriter(path, "dflash")
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
    writer.add_uint32("dflash.block_size", BLOCK)
    writer.add_array("dflash.target_layers", list(TARGET_LAYERS))
    tokens = vocabulary()
    add_vocabulary(writer, tokens)
    writer.add_mask_token_id(0)

    def add(name: str, *shape: int) -> None:
        values = dice.normal(0.0, 0.3, shape) if len(shape) == 2 else numpy.ones(shape)
        writer.add_tensor(f"{name}.weight", values.astype(numpy.float32))

    add("fc", WIDTH, len(TARGET_LAYERS) * WIDTH)
    add("enc.output_norm", WIDTH)
    add("output_norm", WIDTH)
    if has_markov_head:
        add("markov_w1", len(tokens), RANK)
        add("markov_w2", len(tokens), RANK)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        add(f"blk.0.{name}", WIDTH, WIDTH)
    for name, length in (("attn_norm", WIDTH), ("attn_q_norm", WIDTH // HEADS), ("attn_k_norm", WIDTH // HEADS)):
        add(f"blk.0.{name}", length)
    add("blk.0.ffn_norm", WIDTH)
    add("blk.0.ffn_gate", 2 * WIDTH, WIDTH)
    add("blk.0.ffn_up", 2 * WIDTH, WIDTH)
    add("blk.0.ffn_down", WIDTH, 2 * WIDTH)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
