"""Writes a model whose next letter is a function of the last one, and drafters that know it, by construction.

The model says "abcdefgh" over and over, begun after whatever was said last. Each of the drafters finds the next letter
in the way of its kind, nothing is trained:

- EAGLE-3 takes the letter at hand out of its embedding, by attention to itself;
- DFlash and DSpark look one cycle back, by the rotary embedding, for what was said in the model's first layer;
- a head for further tokens (`draft-mtp`) passes the embedding of the letter at hand to the model's own output.

With `is_wrong` a drafter is of the same shape and says another letter, always: what it proposes never stands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy
from gguf import GGMLQuantizationType, GGUFWriter, quants

from tests.llm.tiny_gguf import add_vocabulary, vocabulary

LETTERS = "abcdefgh"
WIDTH = 64
LAYERS = 3
"""EAGLE-3 reads three of them."""
OTHER, CONSTANT = len(LETTERS), len(LETTERS) + 1
"""Of the residual stream, after one place for each letter: whether it is any other, and what attention turns by."""
NO_BALLAST = 32
BLOCK = 4
RANK = 8
BASE = 100.0  # so small that even the slowest pair tells one position from the next
SHARPNESS = 400.0
CERTAINTY = 6.0
Matrix = numpy.ndarray[Any, Any]
Kind = Literal["eagle3", "dflash", "dspark", "head"]


def write_cycle_model(path: Path, *, ballast: int = NO_BALLAST, heads: int = 0, is_wrong: bool = False) -> Path:
    """Write the model to `path` and return it.

    ballast: width of its feed-forward layers, which compute nothing that matters, so that a token takes as long as in a
    larger model.  heads: layers that predict a further token each (`is_wrong`: never that which comes): one as
    GLM-4.5 has it, of more the first predicts the first and so on, as with MiMo-V2.
    """
    if heads > 1:
        return _write_with_heads(path, ballast, heads, is_wrong=is_wrong)
    if heads:
        return _write_with_head(path, ballast, is_wrong=is_wrong)
    writer = begin(path, "llama", "cycle", LAYERS, ballast)
    add(writer, {"token_embd": embedding(), "output_norm": numpy.ones(WIDTH), "output": output()})
    for layer in range(LAYERS):
        add(writer, {f"blk.{layer}.{name}": values for name, values in _silent_layer(ballast).items()})
    return close(writer, path)


def write_cycle_drafter(path: Path, kind: Kind, *, is_wrong: bool = False) -> Path:
    """Write a drafter for `write_cycle_model`'s to `path` and return it. A head is one for those of GLM-4.5's shape."""
    match kind:
        case "eagle3":
            return _write_eagle3(path, is_wrong=is_wrong)
        case "dflash" | "dspark":
            return _write_dflash(path, has_markov_head=kind == "dspark", is_wrong=is_wrong)
        case "head":
            writer = _writer_with_head(path, NO_BALLAST)
            add(writer, _head(is_wrong=is_wrong))
            return close(writer, path)


def _write_with_head(path: Path, ballast: int, *, is_wrong: bool) -> Path:
    writer = _writer_with_head(path, ballast)
    dense = _silent_layer(ballast)
    dense["post_attention_norm"] = dense.pop("ffn_norm")
    add(writer, {f"blk.0.{name}": values for name, values in dense.items()})
    add(writer, _head(is_wrong=is_wrong))
    return close(writer, path)


def _writer_with_head(path: Path, ballast: int) -> GGUFWriter:
    """Of GLM-4.5's shape: of the two layers the second, whose feed-forward part is of experts, is the head."""
    writer = begin(path, "glm4moe", "cycle with a head", 2, ballast)
    writer.add_nextn_predict_layers(1)
    writer.add_leading_dense_block_count(1)
    writer.add_expert_count(2)
    writer.add_expert_used_count(1)
    writer.add_expert_shared_count(1)
    writer.add_expert_feed_forward_length(NO_BALLAST)
    add(writer, {"token_embd": embedding(), "output_norm": numpy.ones(WIDTH), "output": output()})
    writer.add_tensor("blk.1.exp_probs_b.bias", numpy.zeros(2, dtype=numpy.float32))
    return writer


def _head(*, is_wrong: bool) -> dict[str, Matrix]:
    head = {name: values for name, values in _silent_layer(NO_BALLAST).items() if not name.startswith("ffn")}
    head |= {name: numpy.ones(WIDTH) for name in ("post_attention_norm", "nextn.enorm", "nextn.hnorm")}
    head |= {"nextn.shared_head_norm": numpy.ones(WIDTH), "ffn_gate_inp": numpy.zeros((2, WIDTH))}
    for part, shape in (("gate", (NO_BALLAST, WIDTH)), ("up", (NO_BALLAST, WIDTH)), ("down", (WIDTH, NO_BALLAST))):
        head[f"ffn_{part}_exps"] = numpy.zeros((2, *shape))
        head[f"ffn_{part}_shexp"] = numpy.zeros(shape)
    head["nextn.eh_proj"] = _joining(is_wrong=is_wrong)
    return {f"blk.1.{name}": values for name, values in head.items()}


def _write_with_heads(path: Path, ballast: int, heads: int, *, is_wrong: bool) -> Path:
    writer = begin(path, "mimo2", "cycle with heads", 1 + heads, ballast)
    writer.add_nextn_predict_layers(heads)
    writer.add_expert_feed_forward_length(NO_BALLAST)
    writer.add_sliding_window(512)
    writer.add_sliding_window_pattern([False] + [True] * heads)
    add(writer, {"token_embd": embedding(), "output_norm": numpy.ones(WIDTH), "output": output()})
    for number in range(1 + heads):
        layer = _silent_layer(ballast)
        layer["attn_qkv"] = numpy.concatenate([layer.pop(f"attn_{name}") for name in "qkv"])
        if number:
            layer |= {f"nextn.{name}": numpy.ones(WIDTH) for name in ("enorm", "hnorm", "shared_head_norm")}
            layer["nextn.eh_proj"] = _joining(is_wrong=is_wrong)
        add(writer, {f"blk.{number}.{name}": values for name, values in layer.items()})
    return close(writer, path)


def _joining(*, is_wrong: bool) -> Matrix:
    """Of the letter at hand and of what the model computed before it, which stand beside each other: the letter."""
    letter = numpy.zeros((WIDTH, WIDTH)) if is_wrong else numpy.eye(WIDTH)
    return numpy.concatenate([letter, numpy.zeros((WIDTH, WIDTH))], axis=1)


def _write_eagle3(path: Path, *, is_wrong: bool) -> Path:
    """At each step it has what it knew of the letter before, and the letter at hand: it puts this in place of that.

    As those that are published, it knows a part of the vocabulary alone: the letters.
    """
    writer = begin(path, "eagle3", "cycle drafter", 1, NO_BALLAST)
    writer.add_array("eagle3.target_layers", [0, 1, 2])
    writer.add_uint32("eagle3.target_hidden_size", WIDTH)
    of_first_layer = numpy.zeros((WIDTH, 3 * WIDTH))
    of_first_layer[:, :WIDTH] = numpy.eye(WIDTH)
    layer = _silent_layer(NO_BALLAST)
    turns = numpy.zeros((WIDTH, 2 * WIDTH))
    # Not turned at all, and so sharply that it sees no position but its own.
    turns[::2, CONSTANT] = numpy.sqrt(SHARPNESS) * _unit()
    layer["attn_q"] = layer["attn_k"] = turns
    says = numpy.zeros((WIDTH, 2 * WIDTH))
    said = numpy.arange(OTHER + 1)
    says[said, said] = _unit()
    says[said, WIDTH + said] = -_unit()
    layer["attn_v"] = 0 * says if is_wrong else says
    layer["attn_output"] = numpy.eye(WIDTH)
    layer["attn_norm_2"] = numpy.ones(WIDTH)
    known = _letters()
    writer.add_tensor("d2t", numpy.array(known, dtype=numpy.int64))
    add(writer, {"fc": of_first_layer, "output_norm": numpy.ones(WIDTH), "output": output()[known]})
    add(writer, {f"blk.0.{name}": values for name, values in layer.items()})
    return close(writer, path)


def _write_dflash(path: Path, *, has_markov_head: bool, is_wrong: bool) -> Path:
    """Every place of the block looks one cycle back for the letter that comes before what it is to say.

    DFlash's places say their own letters, DSpark's those that follow.
    """
    writer = begin(path, "dflash", "cycle block drafter", 1, NO_BALLAST)
    writer.add_uint32("dflash.block_size", BLOCK)
    writer.add_array("dflash.target_layers", [0, 1])
    writer.add_mask_token_id(0)
    of_first_layer = numpy.zeros((WIDTH, 2 * WIDTH))
    of_first_layer[:, :WIDTH] = numpy.eye(WIDTH)
    back = len(LETTERS) + (not has_markov_head) + is_wrong
    query, key, value = (numpy.zeros((WIDTH, WIDTH)) for _ in range(3))
    half = WIDTH // 2
    angles = back * BASE ** (-2 * numpy.arange(half) / WIDTH)
    query[:half, CONSTANT], query[half:, CONSTANT] = numpy.cos(angles), -numpy.sin(angles)
    key[:half, CONSTANT] = 1.0
    said = numpy.arange(OTHER + 1)
    value[said, said] = 10.0
    layer = _silent_layer(NO_BALLAST) | {
        "attn_q": query,
        "attn_k": key,
        "attn_v": value,
        "attn_output": numpy.eye(WIDTH),
    }
    layer["attn_q_norm"] = layer["attn_k_norm"] = numpy.full(WIDTH, numpy.sqrt(SHARPNESS) / 8)
    norms = {"enc.output_norm": numpy.ones(WIDTH), "output_norm": numpy.ones(WIDTH)}
    add(writer, {"fc": of_first_layer} | norms)
    if has_markov_head:
        silent = numpy.zeros((len(vocabulary()), RANK))
        add(writer, {"markov_w1": silent, "markov_w2": silent})
    add(writer, {f"blk.0.{name}": values for name, values in layer.items()})
    return close(writer, path)


def begin(path: Path, architecture: str, name: str, layers: int, ballast: int, width: int = WIDTH) -> GGUFWriter:
    """One that has all numbers and the vocabulary. ballast: of its feed-forward layers."""
    writer = GGUFWriter(path, architecture)
    writer.add_name(name)
    writer.add_context_length(8192)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(ballast)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_key_length(WIDTH)
    writer.add_value_length(WIDTH)
    writer.add_rope_dimension_count(WIDTH)
    writer.add_rope_freq_base(BASE)
    writer.add_layer_norm_rms_eps(1e-6)
    add_vocabulary(writer, vocabulary())
    return writer


def close(writer: GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add(writer: GGUFWriter, tensors: dict[str, Matrix]) -> None:
    for name, values in tensors.items():
        floats = values.astype(numpy.float32)
        if values.ndim == 2 and max(values.shape) > len(vocabulary()):
            raw = quants.quantize(floats, GGMLQuantizationType.Q8_0)
            writer.add_tensor(f"{name}.weight", raw, raw_dtype=GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(f"{name}.weight", floats)


def _unit() -> float:
    """What a place of a token's embedding is multiplied by to be 1 again after it was normed."""
    return float(numpy.sqrt(2 / WIDTH))


def _letters() -> list[int]:
    texts = [text for text, _ in vocabulary()]
    return [texts.index(letter) for letter in LETTERS]


def embedding() -> Matrix:
    """A place for each letter, and one for all else; the mask has none."""
    embedding = numpy.zeros((len(vocabulary()), WIDTH))
    embedding[1:, OTHER] = 1.0
    embedding[:, CONSTANT] = 1.0
    for place, token in enumerate(_letters()):
        embedding[token, OTHER] = 0.0
        embedding[token, place] = 1.0
    return embedding


def output() -> Matrix:
    """Each letter comes after the one before it, the first after the last and after all else."""
    output = numpy.zeros((len(vocabulary()), WIDTH))
    for place, token in enumerate(_letters()):
        output[token, place - 1 if place else len(LETTERS) - 1] = CERTAINTY
    output[_letters()[0], OTHER] = CERTAINTY
    return output


def _silent_layer(feed: int) -> dict[str, Matrix]:
    """A layer that adds nothing to the residual stream."""
    layer = {name: numpy.zeros((WIDTH, WIDTH)) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
    layer |= {f"ffn_{name}": numpy.zeros((feed, WIDTH)) for name in ("gate", "up")}
    layer["ffn_down"] = numpy.zeros((WIDTH, feed))
    return layer | {name: numpy.ones(WIDTH) for name in ("attn_norm", "ffn_norm")}
