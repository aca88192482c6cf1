"""Makes a random llama-architecture GGUF of about a hundred kilobytes, for tests of the real engine.

It speaks nonsense on purpose: what is tested is how it is started, asked, interrupted and killed.
Greedy decoding never ends by itself, so a request runs until `max_tokens` or until it is cancelled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
from gguf import GGUFWriter, LlamaFileType, PoolingType, TokenType

PRINTABLE = [chr(code) for code in range(32, 127)]
SPECIAL = ["<unk>", "<s>", "</s>"]
CHAT_TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


def write_tiny_gguf(
    path: Path,
    *,
    width: int = 64,
    layers: int = 2,
    context_tokens: int = 8192,
    seed: int = 1,
    matrix_type: type[numpy.floating[Any]] = numpy.float32,
    pooling: PoolingType | None = None,
    more_tokens: int = 0,
) -> Path:
    """Write the model to `path` and return it. width: a multiple of 32.  The same arguments give the same bytes.

    pooling: makes it a model for embeddings or for reranking.  more_tokens: unused ones, at the end.
    """
    heads = width // 32
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(context_tokens)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_rope_dimension_count(32)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(LlamaFileType.ALL_F32 if matrix_type is numpy.float32 else LlamaFileType.MOSTLY_F16)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    tokens = vocabulary(more_tokens)
    add_vocabulary(writer, tokens)
    _add_tensors(writer, len(tokens), width, layers, numpy.random.default_rng(seed), matrix_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def vocabulary(more_tokens: int = 0) -> list[tuple[str, TokenType]]:
    """Bytes and printable characters."""
    special = [(SPECIAL[0], TokenType.UNKNOWN), *((text, TokenType.CONTROL) for text in SPECIAL[1:])]
    raw = [(f"<0x{byte:02X}>", TokenType.BYTE) for byte in range(256)]
    # SentencePiece writes a space as U+2581.
    normal = [("▁" if text == " " else text, TokenType.NORMAL) for text in PRINTABLE]
    unused = [(f"[PAD{number}]", TokenType.UNUSED) for number in range(more_tokens)]
    return [*special, *raw, *normal, *unused]


def add_vocabulary(writer: GGUFWriter, tokens: list[tuple[str, TokenType]]) -> None:
    """With a chat template."""
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_sep_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)


def _add_tensors(
    writer: GGUFWriter,
    tokens: int,
    width: int,
    layers: int,
    dice: numpy.random.Generator,
    matrix_type: type[numpy.floating[Any]],
) -> None:
    def matrix(rows: int, columns: int) -> numpy.ndarray:
        return dice.normal(0.0, 0.3, (rows, columns)).astype(matrix_type)

    ones = numpy.ones(width, dtype=numpy.float32)
    output = matrix(tokens, width)
    # Zero logits for everything but printable text: the answer is valid UTF-8 and never ends.
    output[: len(SPECIAL) + 256] = 0.0
    output[len(SPECIAL) + 256 + len(PRINTABLE) :] = 0.0
    writer.add_tensor("token_embd.weight", matrix(tokens, width))
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("output.weight", output)
    for layer in range(layers):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", matrix(width, width))
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", ones)
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", ones)
        writer.add_tensor(f"blk.{layer}.ffn_gate.weight", matrix(2 * width, width))
        writer.add_tensor(f"blk.{layer}.ffn_up.weight", matrix(2 * width, width))
        writer.add_tensor(f"blk.{layer}.ffn_down.weight", matrix(width, 2 * width))
