"""The toy models' forward pass in PyTorch: pre-norm llama blocks over a dictionary of weights with GGUF names.

Only the trainer imports this. Rotary pairs are neighbours (2j, 2j+1), as llama.cpp has them for `llama`, so the
weights need no reordering on export.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from llm.demo.shape import Shape

Weights = dict[str, Tensor]


def make_weights(shape: Shape, generator: torch.Generator) -> Weights:
    """Fresh weights: normal, scaled by the columns in; those that write to the residual smaller still."""
    weights: Weights = {}
    for name, (rows, columns) in shape.matrices().items():
        scale = 0.02 if name == "token_embd.weight" else columns**-0.5
        if "attn_output" in name or "ffn_down" in name:
            scale *= (2 * shape.blocks) ** -0.5
        weights[name] = (torch.randn(rows, columns, generator=generator) * scale).requires_grad_()
    for name in shape.norms():
        weights[name] = torch.ones(shape.width, requires_grad=True)
    return weights


def forward(weights: Weights, shape: Shape, tokens: Tensor, mask: Tensor) -> Tensor:
    """Hidden states after the last norm.

    tokens: (rows, length) int64.  mask: (rows, 1, length, length) bool, True where a position may look.
    Returns (rows, length, width); `logits` turns those wanted into scores.
    """
    turn = _rotation(shape, tokens.shape[1])
    state = functional.embedding(tokens, weights["token_embd.weight"])
    for block in range(shape.blocks):
        prefix = f"blk.{block}."
        normed = _norm(state, weights[prefix + "attn_norm.weight"], shape)
        state = state + _attention(weights, prefix, shape, normed, mask, turn)
        normed = _norm(state, weights[prefix + "ffn_norm.weight"], shape)
        state = state + _feed_forward(weights, prefix, normed)
    return _norm(state, weights["output_norm.weight"], shape)


def logits(weights: Weights, states: Tensor) -> Tensor:
    """Scores over the vocabulary, (…, vocabulary), by the tied embedding."""
    return functional.linear(states, weights["token_embd.weight"])


def _norm(state: Tensor, gain: Tensor, shape: Shape) -> Tensor:
    return functional.rms_norm(state, (shape.width,), gain, shape.norm_epsilon)


def _rotation(shape: Shape, length: int) -> Tensor:
    """Complex unit numbers, (length, head_width / 2)."""
    exponent = torch.arange(0, shape.head_width, 2, dtype=torch.float32) / shape.head_width
    angle = torch.outer(torch.arange(length, dtype=torch.float32), shape.rope_base**-exponent)
    return torch.polar(torch.ones_like(angle), angle)


def _rotate(heads: Tensor, turn: Tensor) -> Tensor:
    """Turn neighbouring pairs of `heads`, (rows, heads, length, head_width), by their position."""
    pairs = torch.view_as_complex(heads.reshape(*heads.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(pairs * turn).flatten(-2)


def _attention(weights: Weights, prefix: str, shape: Shape, state: Tensor, mask: Tensor, turn: Tensor) -> Tensor:
    def project(part: str) -> Tensor:
        projected = functional.linear(state, weights[f"{prefix}attn_{part}.weight"])
        return projected.reshape(*projected.shape[:-1], -1, shape.head_width).transpose(1, 2)

    query, key, value = _rotate(project("q"), turn), _rotate(project("k"), turn), project("v")
    share = shape.heads // shape.kv_heads
    key, value = (part.repeat_interleave(share, dim=1) for part in (key, value))
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return functional.linear(mixed.transpose(1, 2).flatten(-2), weights[prefix + "attn_output.weight"])


def _feed_forward(weights: Weights, prefix: str, state: Tensor) -> Tensor:
    gate = functional.silu(functional.linear(state, weights[prefix + "ffn_gate.weight"]))
    up = functional.linear(state, weights[prefix + "ffn_up.weight"])
    return functional.linear(gate * up, weights[prefix + "ffn_down.weight"])
