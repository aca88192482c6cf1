"""Reads llama-server's command line for what memory depends on, so that a prediction is of what was really started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llm.memory.settings import KV_TYPES, EngineSettings, KvType

ALIASES = {
    "-m": "--model",
    "-c": "--ctx-size",
    "-np": "--parallel",
    "-b": "--batch-size",
    "-ub": "--ubatch-size",
    "-ctk": "--cache-type-k",
    "-ctv": "--cache-type-v",
    "-fa": "--flash-attn",
    "-ts": "--tensor-split",
    "-md": "--model-draft",
    "--spec-draft-model": "--model-draft",
    "-mm": "--mmproj",
    "-kvu": "--kv-unified",
    "-ngl": "--n-gpu-layers",
    "--gpu-layers": "--n-gpu-layers",
}
SWITCHES = frozenset({"--kv-unified", "--no-kv-unified", "--swa-full", "--no-repack"})
SERVER_SLOTS = 4  # what llama-server takes, with one cache for all, when it is not told
DRAFT_TOKENS = 3  # common/common.h: n_max of a draft


@dataclass(frozen=True, slots=True)
class Command:
    """shares: of the layers for each RPC server, then each GPU; () without any.  gpu_layers: None if not said.

    drafts_on_host: the draft computes on the CPU, wherever the model does.
    """

    model: Path
    settings: EngineSettings
    shares: tuple[float, ...]
    gpu_layers: int | None
    draft: Path | None
    drafts_on_host: bool
    projector: Path | None


def read_command_line(argv: Sequence[str], own_devices: int = 0) -> Command:
    """What `argv` asks of memory. Unknown arguments are passed over. Raises ValueError for a number that is none.

    own_devices: GPUs of this host, which llama.cpp puts after those of RPC servers.
    """
    said = _options(argv)
    slots = int(said.get("--parallel", "-1"))
    draft = _path(said.get("--model-draft"))
    settings = EngineSettings(
        context_tokens=int(said.get("--ctx-size", "0")),
        slots=slots if slots > 0 else SERVER_SLOTS,
        key_type=_kv_type(said.get("--cache-type-k", "f16")),
        value_type=_kv_type(said.get("--cache-type-v", "f16")),
        flash_attention=said.get("--flash-attn", "auto") not in ("off", "0"),
        batch_tokens=int(said.get("--batch-size", "2048")),
        micro_batch_tokens=int(said.get("--ubatch-size", "512")),
        is_unified=slots <= 0 or "--kv-unified" in said,
        whole_window="--swa-full" in said,
        drafts=int(said.get("--spec-draft-n-max", str(DRAFT_TOKENS))) if _drafts(said) else 0,
        repacks="--no-repack" not in said,
    )
    layers = said.get("--n-gpu-layers")
    return Command(
        model=Path(said.get("--model", "")),
        settings=settings,
        shares=_shares(said, own_devices),
        gpu_layers=int(layers) if layers is not None and layers.lstrip("-").isdigit() else None,
        draft=draft,
        drafts_on_host=said.get("--spec-draft-device") == "none",
        projector=_path(said.get("--mmproj")),
    )


def _drafts(said: dict[str, str]) -> bool:
    # A draft model alone does nothing: llama-server must be told how to use it.
    return "draft" in said.get("--spec-type", "")


def _options(argv: Sequence[str]) -> dict[str, str]:
    said: dict[str, str] = {}
    at = 0
    while at < len(argv):
        name = ALIASES.get(argv[at], argv[at])
        at += 1
        if name in SWITCHES:
            said[name] = ""
        elif name.startswith("-") and at < len(argv) and not _is_flag(argv[at]):
            said[name] = argv[at]
            at += 1
    return said


def _is_flag(word: str) -> bool:
    return word.startswith("-") and not word.lstrip("-").replace(".", "").isdigit()


def _shares(said: dict[str, str], own_devices: int) -> tuple[float, ...]:
    count = len([server for server in said.get("--rpc", "").split(",") if server]) + own_devices
    given = [float(share) for share in said.get("--tensor-split", "").split(",") if share]
    return tuple((given + [0.0] * count)[:count]) if any(given[:count]) else (1.0,) * count


def _kv_type(name: str) -> KvType:
    if name not in KV_TYPES:
        raise ValueError(f"expected a cache type of {', '.join(KV_TYPES)}, got {name!r}")
    return name


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
