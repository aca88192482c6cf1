"""Writes a model that recalls by construction: after a word that was said before it says what followed it then.

Two layers of attention, no training (an induction head, arXiv 2209.11895). The first copies each word's predecessor:
its queries and keys are constant and peak one position back, through the rotary embedding's fast pairs. The second
looks for the position whose predecessor is the word at hand, through the slow pairs, which hardly turn, and copies
its word. Some words have a synonym: another token that the model takes for the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quants

WORDS = 768
SYNONYMS = 100
"""Of the first words: word WORDS + i means what word i does."""
CODE, HEAD, WIDTH = 32, 64, 128
BASE = 1e12  # the last 16 of 32 pairs turn by less than 0.004 within 4,000 positions
SHARPNESS = 60.0
NO_BALLAST = 32


def write_recall_model(
    path: Path, *, quantised: bool = False, context_tokens: int = 16384, ballast: int = NO_BALLAST
) -> Path:
    """Write the model to `path` and return it. Its words are "w0", "w1" …, each with a space before it.

    quantised: as Q8_0, else as F32.  ballast: width of its two feed-forward layers, which compute nothing that matters:
    each row of it takes 816 bytes as Q8_0, so that a token takes as long as in a larger model.
    """
    writer = GGUFWriter(path, "llama")
    writer.add_name("recall")
    writer.add_context_length(context_tokens)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(2)
    writer.add_feed_forward_length(ballast)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(BASE)
    writer.add_layer_norm_rms_eps(1e-6)
    _add_vocabulary(writer)
    for name, values in _tensors(ballast).items():
        if quantised and values.ndim == 2:
            raw = quants.quantize(values, GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, raw, raw_dtype=GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def word(number: int) -> str:
    return f" w{number}"


def _add_vocabulary(writer: GGUFWriter) -> None:
    special = [("<unk>", TokenType.UNKNOWN), ("<s>", TokenType.CONTROL), ("</s>", TokenType.CONTROL)]
    raw = [(f"<0x{byte:02X}>", TokenType.BYTE) for byte in range(256)]
    letters = [(letter, TokenType.NORMAL) for letter in "▁w0123456789"]
    # The tokenizer joins pairs from the left: every beginning of a word is a token, too.
    words = [(f"▁w{number}", TokenType.NORMAL) for number in range(WORDS + SYNONYMS)]
    tokens = [*special, *raw, *letters, ("▁w", TokenType.NORMAL), *words]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_scores([-1.0 * len(tokens) + len(text) for text, _ in tokens])
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_add_space_prefix(False)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")


FIRST_WORD = 3 + 256 + 12 + 1
END = 2


def _codes() -> numpy.ndarray[Any, Any]:
    """A unit vector for every token; a synonym has its word's."""
    dice = numpy.random.default_rng(7)
    codes: numpy.ndarray[Any, Any] = dice.normal(size=(FIRST_WORD + WORDS, CODE))
    codes /= numpy.linalg.norm(codes, axis=1, keepdims=True)
    return numpy.concatenate([codes, codes[FIRST_WORD : FIRST_WORD + SYNONYMS]])


def _tensors(ballast: int) -> dict[str, numpy.ndarray[Any, Any]]:
    """The residual stream: a word's code, its predecessor's code, what is to be said, and a constant."""
    codes = _codes()
    word_at, before_at, said_at, constant = 0, CODE, 2 * CODE, 3 * CODE
    # The constant is so large that the norm of the stream hardly changes when codes are written into it.
    embedding = numpy.zeros((len(codes), WIDTH))
    embedding[:, word_at : word_at + CODE] = codes
    embedding[:, constant] = 8.0
    scale = numpy.sqrt(WIDTH) / numpy.sqrt(64.0 + 1.5)
    one, code = 1 / (8.0 * scale), 1 / scale  # of the normed stream, back to 1
    tensors = {"token_embd.weight": embedding, "output_norm.weight": numpy.ones(WIDTH)}
    output = numpy.zeros((len(codes), WIDTH))
    # It says no synonyms.
    for token in (END, *range(FIRST_WORD, FIRST_WORD + WORDS)):
        output[token, said_at : said_at + CODE] = 40 * codes[token] * code
    tensors["output.weight"] = output
    eye = numpy.eye(CODE)
    reach = numpy.sqrt(SHARPNESS * numpy.sqrt(HEAD))
    previous_q, previous_k = numpy.zeros((2 * HEAD, WIDTH)), numpy.zeros((2 * HEAD, WIDTH))
    for pair in range(CODE // 2):
        angle = BASE ** (-2 * pair / HEAD)
        previous_q[2 * pair, constant] = reach * numpy.cos(angle) * one
        previous_q[2 * pair + 1, constant] = -reach * numpy.sin(angle) * one
        previous_k[2 * pair, constant] = reach * one
    same_q, same_k = numpy.zeros((2 * HEAD, WIDTH)), numpy.zeros((2 * HEAD, WIDTH))
    same_q[CODE:HEAD, word_at : word_at + CODE] = reach * eye * code
    same_k[CODE:HEAD, before_at : before_at + CODE] = reach * eye * code
    value = numpy.zeros((2 * HEAD, WIDTH))
    value[:CODE, word_at : word_at + CODE] = eye * code
    for layer, (query, key, target) in enumerate(
        ((previous_q, previous_k, before_at), (same_q, same_k, said_at)),
    ):
        write = numpy.zeros((WIDTH, 2 * HEAD))
        write[target : target + CODE, :CODE] = eye
        tensors |= {
            f"blk.{layer}.attn_q.weight": query,
            f"blk.{layer}.attn_k.weight": key,
            f"blk.{layer}.attn_v.weight": value,
            f"blk.{layer}.attn_output.weight": write,
            f"blk.{layer}.attn_norm.weight": numpy.ones(WIDTH),
            f"blk.{layer}.ffn_norm.weight": numpy.ones(WIDTH),
            f"blk.{layer}.ffn_gate.weight": numpy.zeros((ballast, WIDTH)),
            f"blk.{layer}.ffn_up.weight": numpy.zeros((ballast, WIDTH)),
            f"blk.{layer}.ffn_down.weight": numpy.zeros((WIDTH, ballast)),
        }
    return {name: values.astype(numpy.float32) for name, values in tensors.items()}
