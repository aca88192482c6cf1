"""Writes GGUF files of many architectures, with weights that mean nothing: only what an engine allocates matters.

Each is a few megabytes to a few dozen, with a vocabulary large enough to show in the sums. `meshd` reads them as it
reads any model; llama-server loads them in a few hundred milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter, TokenType

F32, F16 = GGMLQuantizationType.F32, GGMLQuantizationType.F16
CHAT_TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
Shapes = Iterator[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Plan:
    """A model to write. window, experts, shared: 0 for none.  kind: type of its matrices."""

    architecture: str
    kind: GGMLQuantizationType = F16
    layers: int = 4
    width: int = 256
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 64
    feed: int = 768
    vocabulary: int = 16000
    window: int = 0
    experts: int = 0
    experts_used: int = 2
    shared: int = 0
    trained_tokens: int = 8192
    is_tied: bool = False


PLANS: dict[str, Plan] = {
    "llama": Plan("llama"),
    "llama-q4_0": Plan("llama", GGMLQuantizationType.Q4_0, width=512, feed=1536, heads=8),
    "mixtral": Plan("llama", experts=4, feed=512),
    "qwen2": Plan("qwen2", GGMLQuantizationType.Q8_0, is_tied=True, vocabulary=32000),
    "qwen2moe": Plan("qwen2moe", experts=8, feed=256, shared=512),
    "qwen3": Plan("qwen3", head_size=128, kv_heads=1, is_tied=True),
    "qwen3moe": Plan("qwen3moe", GGMLQuantizationType.Q8_0, experts=8, feed=256, head_size=128),
    "gemma2": Plan("gemma2", layers=6, window=512, is_tied=True, vocabulary=32000),
    "gemma3": Plan("gemma3", layers=7, window=1024, head_size=256, kv_heads=1, is_tied=True),
    "phi3": Plan("phi3", kv_heads=4),
    "gpt-oss": Plan("gpt-oss", experts=4, feed=256, window=128),
    "olmo2": Plan("olmo2", kv_heads=4),
    "starcoder2": Plan("starcoder2"),
    "command-r": Plan("command-r", is_tied=True),
    "glm4": Plan("glm4"),
    "granite": Plan("granite"),
    "deepseek2": Plan("deepseek2", layers=3, experts=4, feed=256, shared=256, kv_heads=1, head_size=192),
}
MAMBA = Plan("mamba", heads=0, kv_heads=0, head_size=0, feed=0)
"""Beside the others, for what its layers do is not outlined: only its weights and its state are held to anything."""
SCAN_SIZE, SCAN_COLUMNS, SCAN_RANK = 16, 4, 16  # of mamba: its state, its convolution, its time step
LAYER_NORM = ("starcoder2", "command-r")
LORA_RANK, TURNED = 128, 64  # of deepseek2's keys and values: what is cached, and the part that has a position


def write_architecture(path: Path, plan: Plan) -> Path:
    """Write the model to `path` and return it."""
    writer = GGUFWriter(path, plan.architecture)
    _write_numbers(writer, plan)
    _write_vocabulary(writer, plan.vocabulary)
    for name, shape in _tensors(plan):
        is_matrix = len(shape) > 1 and not name.endswith((".bias", "ssm_a")) and "ffn_gate_inp" not in name
        is_matrix &= "conv1d" not in name
        kind = plan.kind if is_matrix else F32
        writer.add_tensor(name, _zeros(shape, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _zeros(shape: tuple[int, ...], kind: GGMLQuantizationType) -> numpy.ndarray:
    """A tensor of `shape` (ggml's order) in the bytes of its type."""
    per_block, block_bytes = GGML_QUANT_SIZES[kind]
    return numpy.zeros((*reversed(shape[1:]), shape[0] // per_block * block_bytes), dtype=numpy.uint8)


def _write_numbers(writer: GGUFWriter, plan: Plan) -> None:
    writer.add_name(plan.architecture)
    writer.add_context_length(plan.trained_tokens)
    writer.add_embedding_length(plan.width)
    writer.add_block_count(plan.layers)
    writer.add_feed_forward_length(plan.feed)
    writer.add_head_count(plan.heads)
    writer.add_head_count_kv(plan.kv_heads)
    if plan.architecture != "deepseek2":
        writer.add_key_length(plan.head_size)
        writer.add_value_length(plan.head_size)
        writer.add_rope_dimension_count(plan.head_size)
    (writer.add_layer_norm_eps if plan.architecture in LAYER_NORM else writer.add_layer_norm_rms_eps)(1e-5)
    if plan.window:
        writer.add_sliding_window(plan.window)
    if plan.experts:
        writer.add_expert_count(plan.experts)
        writer.add_expert_used_count(plan.experts_used)
        writer.add_expert_feed_forward_length(plan.feed)
    if plan.shared:
        writer.add_expert_shared_feed_forward_length(plan.shared)
    if plan.architecture == "granite":
        writer.add_logit_scale(1.0)
    if plan.architecture == "deepseek2":
        _write_latent_numbers(writer, plan)
    if plan.architecture == "mamba":
        writer.add_ssm_conv_kernel(SCAN_COLUMNS)
        writer.add_ssm_inner_size(2 * plan.width)
        writer.add_ssm_state_size(SCAN_SIZE)
        writer.add_ssm_time_step_rank(SCAN_RANK)
    if plan.architecture == "gemma2":
        writer.add_attn_logit_softcapping(50.0)
        writer.add_final_logit_softcapping(30.0)


def _write_latent_numbers(writer: GGUFWriter, plan: Plan) -> None:
    """Multi-head latent attention: one narrow vector is cached in place of keys and values."""
    writer.add_key_length(LORA_RANK + TURNED)
    writer.add_value_length(LORA_RANK)
    writer.add_key_length_mla(plan.head_size)
    writer.add_value_length_mla(plan.head_size - TURNED)
    writer.add_kv_lora_rank(LORA_RANK)
    writer.add_q_lora_rank(LORA_RANK)
    writer.add_rope_dimension_count(TURNED)
    writer.add_leading_dense_block_count(1)
    writer.add_expert_shared_count(plan.shared // plan.feed)
    writer.add_vocab_size(plan.vocabulary)


def _write_vocabulary(writer: GGUFWriter, size: int) -> None:
    special = [("<unk>", TokenType.UNKNOWN), ("<s>", TokenType.CONTROL), ("</s>", TokenType.CONTROL)]
    special.append(("<|endoftext|>", TokenType.CONTROL))  # llama.cpp expects it of anything called phi3
    raw = [(f"<0x{byte:02X}>", TokenType.BYTE) for byte in range(256)]
    words = [(f"w{number}", TokenType.NORMAL) for number in range(size - len(special) - len(raw))]
    tokens = [*special, *raw, *words]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_scores([0.0] * size)
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)


def _tensors(plan: Plan) -> Shapes:
    yield "token_embd.weight", (plan.width, plan.vocabulary)
    yield "output_norm.weight", (plan.width,)
    if plan.architecture == "starcoder2":
        yield "output_norm.bias", (plan.width,)
    if not plan.is_tied:
        yield "output.weight", (plan.width, plan.vocabulary)
    for layer in range(plan.layers):
        if plan.architecture == "mamba":
            yield from ((f"blk.{layer}.{name}", shape) for name, shape in _scan(plan))
            continue
        for part in (_latent if plan.architecture == "deepseek2" else _attention, _feed, _norms):
            for name, shape in part(plan if layer or plan.architecture != "deepseek2" else replace(plan, experts=0)):
                yield f"blk.{layer}.{name}", shape


def _attention(plan: Plan) -> Shapes:
    query, key = plan.heads * plan.head_size, plan.kv_heads * plan.head_size
    if plan.architecture == "phi3":
        yield "attn_qkv.weight", (plan.width, query + 2 * key)
    else:
        for name, rows in (("attn_q", query), ("attn_k", key), ("attn_v", key)):
            yield f"{name}.weight", (plan.width, rows)
            if plan.architecture in ("qwen2", "qwen2moe", "gpt-oss", "starcoder2"):
                yield f"{name}.bias", (rows,)
    yield "attn_output.weight", (query, plan.width)
    if plan.architecture in ("gpt-oss", "starcoder2"):
        yield "attn_output.bias", (plan.width,)
    if plan.architecture == "gpt-oss":
        yield "attn_sinks.weight", (plan.heads,)
    if plan.architecture in ("qwen3", "qwen3moe", "gemma3"):
        yield "attn_q_norm.weight", (plan.head_size,)
        yield "attn_k_norm.weight", (plan.head_size,)
    if plan.architecture == "olmo2":
        yield "attn_q_norm.weight", (query,)
        yield "attn_k_norm.weight", (key,)


def _latent(plan: Plan) -> Shapes:
    plain = plan.head_size - TURNED
    yield "attn_q_a.weight", (plan.width, LORA_RANK)
    yield "attn_q_a_norm.weight", (LORA_RANK,)
    yield "attn_q_b.weight", (LORA_RANK, plan.heads * plan.head_size)
    yield "attn_kv_a_mqa.weight", (plan.width, LORA_RANK + TURNED)
    yield "attn_kv_a_norm.weight", (LORA_RANK,)
    yield "attn_k_b.weight", (plain, LORA_RANK, plan.heads)
    yield "attn_v_b.weight", (LORA_RANK, plain, plan.heads)
    yield "attn_output.weight", (plan.heads * plain, plan.width)


def _scan(plan: Plan) -> Shapes:
    inner = 2 * plan.width
    yield "attn_norm.weight", (plan.width,)
    yield "ssm_in.weight", (plan.width, 2 * inner)
    yield "ssm_conv1d.weight", (SCAN_COLUMNS, inner)
    yield "ssm_conv1d.bias", (inner,)
    yield "ssm_x.weight", (inner, SCAN_RANK + 2 * SCAN_SIZE)
    yield "ssm_dt.weight", (SCAN_RANK, inner)
    yield "ssm_dt.bias", (inner,)
    yield "ssm_a", (SCAN_SIZE, inner)
    yield "ssm_d", (inner,)
    yield "ssm_out.weight", (inner, plan.width)


def _feed(plan: Plan) -> Shapes:
    wide, narrow = (plan.width, plan.feed), (plan.feed, plan.width)
    if not plan.experts:
        yield "ffn_down.weight", narrow
        if plan.architecture in ("phi3", "glm4"):
            yield "ffn_up.weight", (plan.width, 2 * plan.feed)
        else:
            yield "ffn_up.weight", wide
        if plan.architecture not in ("phi3", "glm4", "starcoder2"):
            yield "ffn_gate.weight", wide
        if plan.architecture == "starcoder2":
            yield "ffn_up.bias", (plan.feed,)
            yield "ffn_down.bias", (plan.width,)
        return
    yield "ffn_gate_inp.weight", (plan.width, plan.experts)
    for name, shape in (("gate", wide), ("up", wide), ("down", narrow)):
        yield f"ffn_{name}_exps.weight", (*shape, plan.experts)
        if plan.architecture == "gpt-oss":
            yield f"ffn_{name}_exps.bias", (shape[1], plan.experts)
    if plan.architecture == "gpt-oss":
        yield "ffn_gate_inp.bias", (plan.experts,)
    if plan.shared:
        if plan.architecture == "qwen2moe":
            yield "ffn_gate_inp_shexp.weight", (plan.width,)
        yield "ffn_gate_shexp.weight", (plan.width, plan.shared)
        yield "ffn_up_shexp.weight", (plan.width, plan.shared)
        yield "ffn_down_shexp.weight", (plan.shared, plan.width)


def _norms(plan: Plan) -> Shapes:
    names: tuple[str, ...]
    match plan.architecture:
        case "gemma2" | "gemma3" | "glm4":
            names = ("attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm")
        case "olmo2":
            names = ("post_attention_norm", "post_ffw_norm")
        case "gpt-oss":
            names = ("attn_norm", "post_attention_norm")
        case "command-r":
            names = ("attn_norm",)
        case _:
            names = ("attn_norm", "ffn_norm")
    for name in names:
        yield f"{name}.weight", (plan.width,)
        if plan.architecture == "starcoder2":
            yield f"{name}.bias", (plan.width,)
