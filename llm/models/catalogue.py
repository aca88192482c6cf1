"""Short names for a few models that are often wanted: what `--model qwen2.5-7b` means. Pure.

Any other model of the hub is named as `hf:OWNER/REPOSITORY:QUANT`. These are their makers' or llama.cpp's own files.
"""

from __future__ import annotations

QWEN_SIZES = ("0.5B", "1.5B", "3B", "7B", "14B", "32B")

SPECS: dict[str, str] = {
    **{f"qwen2.5-{size.lower()}": f"hf:Qwen/Qwen2.5-{size}-Instruct-GGUF:Q4_K_M" for size in (*QWEN_SIZES, "72B")},
    **{f"qwen2.5-coder-{size.lower()}": f"hf:Qwen/Qwen2.5-Coder-{size}-Instruct-GGUF:Q4_K_M" for size in QWEN_SIZES},
    **{f"gemma-3-{size}": f"hf:ggml-org/gemma-3-{size}-it-GGUF:Q4_K_M" for size in ("1b", "4b", "12b", "27b")},
    "gpt-oss-20b": "hf:ggml-org/gpt-oss-20b-GGUF",
    "gpt-oss-120b": "hf:ggml-org/gpt-oss-120b-GGUF",
}
"""By name, as people spell them in lower case."""


def known_names() -> str:
    """All of them, for a message."""
    return ", ".join(SPECS)
