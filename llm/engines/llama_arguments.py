"""What a llama-server is started with: its options, and the command line that says them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llm.engines.drafts import DraftChoice, draft_arguments
from llm.engines.llama_binary import LlamaBinary
from llm.memory.host_cache import NO_CACHE, HostCache

KEY_VARIABLE = "LLAMA_API_KEY"  # an argument would show in every user's process list
QUIET_ABORT = {"GGML_NO_BACKTRACE": "1"}
"""Else what aborts has a debugger print its stack over the words that say why, and hold it up meanwhile."""
SPARE_HTTP_THREADS = 8


@dataclass(frozen=True, slots=True)
class RpcDevices:
    """Where else the layers go. servers: as HOST:PORT.  shares: of the layers, one for each device, the servers'
    devices in their order, then this host's own.
    """

    servers: tuple[str, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LlamaServerOptions:
    """How to serve one model.

    model: first part of the GGUF.  name: what clients call it.  log: its log file.  context_tokens: of each
    slot, 0 for what the model was trained with, shared by the slots.  slots: answers at a time.  waiting: requests
    that may wait for one of them.  threads: None leaves it to llama-server.  pulse_timeout_s: how long it may take to
    say that it lives.  binary: instead of the one found.  rpc: None for a model that this host serves alone.
    host_cache: in RAM, for what was read before.  more_arguments: handed on as they are.
    """

    model: Path
    name: str
    log: Path
    context_tokens: int = 0
    slots: int = 4
    waiting: int = 64
    gpu_layers: int = 99
    threads: int | None = None
    kv_type: Literal["f16", "q8_0", "q4_0"] = "f16"
    start_timeout_s: float = 600.0
    pulse_timeout_s: float = 5.0
    binary: Path | None = None
    rpc: RpcDevices | None = None
    draft: DraftChoice | None = None
    host_cache: HostCache = NO_CACHE
    more_arguments: tuple[str, ...] = ()


def arguments(binary: LlamaBinary, options: LlamaServerOptions) -> list[str]:
    """The command line. The port is 0: the child binds a free one and says which, so nobody can take it before."""
    # Each connection occupies a thread, also while it waits or idles.
    http_threads = str(options.slots + options.waiting + SPARE_HTTP_THREADS)
    argv = [str(binary.path), "--model", str(options.model), "--alias", options.name]
    argv += ["--host", "127.0.0.1", "--port", "0", "--threads-http", http_threads]
    # At 4 it says what it allocated, and still nothing of what people write.
    argv += ["--offline", "--no-webui", "--metrics", "--log-colors", "off", "--verbosity", "4"]
    # llama-server divides its context among the slots.
    argv += ["--ctx-size", str(options.context_tokens * options.slots), "--parallel", str(options.slots)]
    # What lies where, and how much may be kept, has been decided; llama-server must not think again.
    argv += ["--n-gpu-layers", str(options.gpu_layers), "--fit", "off"]
    argv += ["--cache-ram", str(options.host_cache.prompts_mib)]
    argv += ["--ctx-checkpoints", str(options.host_cache.checkpoints)]
    argv += ["--cache-type-k", options.kv_type, "--cache-type-v", options.kv_type]
    if options.threads is not None:
        argv += ["--threads", str(options.threads)]
    return [*argv, *_rpc_arguments(options.rpc), *draft_arguments(options.draft), *options.more_arguments]


def _rpc_arguments(rpc: RpcDevices | None) -> list[str]:
    if rpc is None:
        return []
    return ["--rpc", ",".join(rpc.servers), "--tensor-split", ",".join(map(str, rpc.shares))]


def environment(binary: LlamaBinary, key: str) -> dict[str, str]:
    """The variables to start it with."""
    said = {KEY_VARIABLE: key, **QUIET_ABORT}
    if binary.library_dir is not None:
        said["LD_LIBRARY_PATH"] = str(binary.library_dir)
    return said
