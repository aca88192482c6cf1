"""Makes a random image projector (`mmproj`, LLaVA's kind) for the model of `tiny_gguf`: what it sees is nonsense."""

from __future__ import annotations

from pathlib import Path

import numpy
from gguf import GGUFWriter, LlamaFileType

SIZE = 28
PATCH = 14
WIDTH = 32
LAYERS = 2


def write_tiny_projector(path: Path, *, model_width: int = 64, seed: int = 3) -> Path:
    """Write the projector to `path` and return it. model_width: of the model that it is for."""
    writer = GGUFWriter(path, "clip")
    writer.add_name("tiny projector")
    writer.add_file_type(LlamaFileType.ALL_F32)
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("mlp")
    writer.add_vision_projection_dim(model_width)
    writer.add_vision_image_size(SIZE)
    writer.add_vision_patch_size(PATCH)
    writer.add_vision_embedding_length(WIDTH)
    writer.add_vision_feed_forward_length(2 * WIDTH)
    writer.add_vision_block_count(LAYERS)
    writer.add_vision_head_count(2)
    writer.add_vision_attention_layernorm_eps(1e-5)
    writer.add_vision_image_mean([0.5] * 3)
    writer.add_vision_image_std([0.5] * 3)
    writer.add_vision_use_gelu(False)
    _add_tensors(writer, model_width, numpy.random.default_rng(seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tensors(writer: GGUFWriter, model_width: int, dice: numpy.random.Generator) -> None:
    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, dice.normal(0.0, 0.3, shape).astype(numpy.float32))

    def layer(name: str, rows: int, columns: int) -> None:
        add(f"{name}.weight", rows, columns)
        add(f"{name}.bias", rows)

    def norm(name: str) -> None:
        add(f"{name}.weight", WIDTH)
        add(f"{name}.bias", WIDTH)

    add("v.class_embd", WIDTH)
    add("v.patch_embd.weight", WIDTH, 3, PATCH, PATCH)
    add("v.position_embd.weight", (SIZE // PATCH) ** 2 + 1, WIDTH)
    norm("v.pre_ln")
    for number in range(LAYERS):
        for place in ("ln1", "ln2"):
            norm(f"v.blk.{number}.{place}")
        for place in ("attn_q", "attn_k", "attn_v", "attn_out"):
            layer(f"v.blk.{number}.{place}", WIDTH, WIDTH)
        layer(f"v.blk.{number}.ffn_down", WIDTH, 2 * WIDTH)
        layer(f"v.blk.{number}.ffn_up", 2 * WIDTH, WIDTH)
    layer("mm.0", model_width, WIDTH)
    layer("mm.2", model_width, model_width)
