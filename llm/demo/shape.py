"""The sizes of the two toy models: what the trainer builds and the GGUF files say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a llama-architecture model with tied embeddings.

    Every matrix is a multiple of 32 wide, the block length of Q8_0. Heads are 64 wide, the narrowest for which
    llama.cpp has flash attention on GPUs.
    """

    name: str
    blocks: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_width: int = 64
    context: int = 1024
    vocabulary: int = 1536
    rope_base: float = 10000.0
    norm_epsilon: float = 1e-5

    def matrices(self) -> dict[str, tuple[int, int]]:
        """Every weight matrix by its GGUF name, as (rows out, columns in)."""
        found = {"token_embd.weight": (self.vocabulary, self.width)}
        for block in range(self.blocks):
            found |= {
                f"blk.{block}.attn_q.weight": (self.heads * self.head_width, self.width),
                f"blk.{block}.attn_k.weight": (self.kv_heads * self.head_width, self.width),
                f"blk.{block}.attn_v.weight": (self.kv_heads * self.head_width, self.width),
                f"blk.{block}.attn_output.weight": (self.width, self.heads * self.head_width),
                f"blk.{block}.ffn_gate.weight": (self.feed_forward, self.width),
                f"blk.{block}.ffn_up.weight": (self.feed_forward, self.width),
                f"blk.{block}.ffn_down.weight": (self.width, self.feed_forward),
            }
        return found

    def norms(self) -> tuple[str, ...]:
        """The GGUF names of the RMSNorm gains, each `width` long."""
        inner = (f"blk.{block}.{part}_norm.weight" for block in range(self.blocks) for part in ("attn", "ffn"))
        return (*inner, "output_norm.weight")


# Six blocks, so that a split over several hosts has something to divide.
CHAT = Shape("meshd-toy", blocks=6, width=192, feed_forward=512, heads=3, kv_heads=1)
DRAFT = Shape("meshd-toy-draft", blocks=2, width=128, feed_forward=320, heads=2, kv_heads=1)
