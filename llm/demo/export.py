"""Writes a toy model as a GGUF file for llama.cpp: matrices in Q8_0, norms in F32, tokenizer and template inside.

Q8_0 because greedy output with and without speculation is promised to be identical for quantised weights only.
The bytes depend on nothing but the arguments: no date, no path.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from llm.demo import chat
from llm.demo.bpe import Tokenizer
from llm.demo.shape import Shape

Array = NDArray[np.float32]


def write_gguf(path: Path, shape: Shape, weights: dict[str, Array], tokenizer: Tokenizer) -> None:
    """Write `weights`, by GGUF name, to `path`. Raises ValueError where names or sizes do not match `shape`."""
    _check(shape, weights, tokenizer)
    writer = GGUFWriter(path, "llama")
    _describe(writer, shape)
    _add_tokenizer(writer, tokenizer)
    for name in weights:
        if name in shape.matrices():
            packed = quantize(weights[name], GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(name, weights[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def as_shipped(shape: Shape, weights: dict[str, Array]) -> dict[str, Array]:
    """The weights as the file holds them, so that what is judged is what is shipped."""
    kind = GGMLQuantizationType.Q8_0
    rounded = {name: dequantize(quantize(weights[name], kind), kind) for name in shape.matrices()}
    return {name: rounded.get(name, weights[name]) for name in weights}


def _check(shape: Shape, weights: dict[str, Array], tokenizer: Tokenizer) -> None:
    expected: dict[str, tuple[int, ...]] = {**shape.matrices(), **dict.fromkeys(shape.norms(), (shape.width,))}
    found = {name: weight.shape for name, weight in weights.items()}
    if found != expected or len(tokenizer.tokens) != shape.vocabulary:
        raise ValueError(f"{shape.name}: weights or vocabulary do not match the shape")


def _describe(writer: GGUFWriter, shape: Shape) -> None:
    writer.add_name(shape.name)
    writer.add_description("A toy model trained on the meshd project's own texts; for demos and tests only.")
    writer.add_license("apache-2.0")
    writer.add_languages(["en"])
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.blocks)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_vocab_size(shape.vocabulary)


def _add_tokenizer(writer: GGUFWriter, tokenizer: Tokenizer) -> None:
    kinds = [TokenType.CONTROL if token in tokenizer.specials else TokenType.NORMAL for token in tokenizer.tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(tokenizer.tokens))
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{left} {right}" for left, right in tokenizer.merges])
    writer.add_bos_token_id(tokenizer.ids[chat.END_OF_TEXT])
    writer.add_eos_token_id(tokenizer.ids[chat.END])
    writer.add_eot_token_id(tokenizer.ids[chat.END])
    writer.add_pad_token_id(tokenizer.ids[chat.END_OF_TEXT])
    # The training samples have no token before them, so llama.cpp must not add one.
    writer.add_add_bos_token(False)
    writer.add_chat_template(chat.TEMPLATE)
