"""What llama.cpp can draft for, by architecture: whose layers it hands to a drafter, and whose own heads it computes.

Read in llama.cpp's src/models as llama-cpp-python 0.3.36 brings it (`res->t_layer_inp`, `res->t_h_nextn`,
`LLM_GRAPH_TYPE_DECODER_MTP`). Elsewhere llama-server aborts, some only at the first question: "layer input tensor is
null", "unordered_map::at".
"""

from __future__ import annotations

READ_IN = "0.3.36"
"""Of llama-cpp-python: another version's lists are other ones."""

GIVES_LAYERS = frozenset(
    [
        "bailingmoe3",
        "deepseek4",
        "gemma4",
        "gpt-oss",
        "hunyuan-dense",
        "hunyuan_vl",
        "lfm2",
        "lfm2moe",
        "llama",
        "llama-embed",
        "mimo2",
        "minimax-01",
        "minimax-m2",
        "muse-glimmer",
        "nanbeige",
        "nemotron_h",
        "nemotron_h_moe",
        "qwen3",
        "qwen35",
        "qwen35moe",
        "qwen3moe",
        "qwen3next",
        "qwen4exp",
    ]
)
"""What enters a layer, which EAGLE-3, DFlash and DSpark read."""

GIVES_LAST_LAYER = frozenset(["deepseek4", "mimo2", "nemotron_h", "nemotron_h_moe"])
"""Also what leaves the last one, as DFlash and DSpark ask for it: as what would enter one layer more."""

GIVES_LAST_STATE = frozenset(
    [
        "bailingmoe3",
        "cohere2moe",
        "deepseek2",
        "deepseek32",
        "deepseek4",
        "gemma4",
        "glm-dsa",
        "glm4moe",
        "glm5-next",
        "gpt-oss",
        "hy_v3",
        "mimo2",
        "mistral4",
        "nemotron_h",
        "nemotron_h_moe",
        "qwen35",
        "qwen35moe",
        "qwen3next",
        "step35",
    ]
)
"""What leaves the last layer, as heads and EAGLE-3 ask for it. Of others EAGLE-3 would get what memory held before."""

HAS_ONE_HEAD = frozenset(
    [
        "bailingmoe3",
        "cohere2moe",
        "deepseek2",
        "deepseek32",
        "deepseek4",
        "glm-dsa",
        "glm4moe",
        "glm5-next",
        "mistral4",
        "nemotron_h_moe",
        "qwen35",
        "qwen35moe",
        "qwen3next",
    ]
)
"""Whose layers for further tokens are computed, one such layer at most."""

HAS_HEADS = frozenset(["hy_v3", "mimo2", "step35"])
"""The same, with any number of them. Of what is in neither, the heads are kept in the file and never computed."""
