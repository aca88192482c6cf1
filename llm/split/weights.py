"""Fills an RPC server's cache from this node's own copy of the model, so that no large tensor crosses the wire.

Each file of the cache is a tensor's bytes as they lie in the GGUF, named by a hash of them (`hash_tensors`). Only
tensors above llama.cpp's threshold are looked for there; smaller ones always cross.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llm.engines import child_log
from llm.engines.interface import EngineFailed, Launcher
from llm.engines.llama_binary import find_rpc_server
from llm.engines.rpc_server import RpcServerOptions, running_rpc_server
from llm.gguf import ModelFile, Tensor
from llm.split.weight_cache import WeightFolder

HASH_THRESHOLD_BYTES = 10 << 20
HASH_TENSORS = Path(__file__).with_name("hash_tensors.py")
HASHED = re.compile(r"^(\d+) ([0-9a-f]{16})$", re.MULTILINE)
LAYER = re.compile(r"blk\.(\d+)\.")
OUTPUT = ("output", "token_embd.weight")
"""Also the embedding: where a model has no output matrix of its own, that serves as one."""
HASH_TIMEOUT_S = 900.0
MAX_HASH_LOG_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """The layers that one worker holds. has_output: the last step too."""

    first_layer: int
    layers: int
    has_output: bool

    def has(self, tensor: Tensor) -> bool:
        layer = LAYER.match(tensor.name)
        if layer is None:
            return self.has_output and tensor.name.startswith(OUTPUT)
        return self.first_layer <= int(layer[1]) < self.first_layer + self.layers


def large_tensors(file: ModelFile, part: Part) -> list[Tensor]:
    """Those of `part` that llama.cpp looks for in the cache before it sends them."""
    return [one for one in file.tensors if one.size_bytes > HASH_THRESHOLD_BYTES and part.has(one)]


@dataclass(frozen=True, slots=True)
class WeightFiller:
    """What filling needs. log: of the children that hash.  binary: the llama-server whose libraries are asked."""

    launcher: Launcher
    log: Path
    binary: Path | None = None

    async def fill(self, file: ModelFile, part: Part, folder: WeightFolder) -> int:
        """Have every large tensor of `part` in `folder`; how many bytes these are. Raises EngineFailed, OSError."""
        wanted = large_tensors(file, part)
        names = await asyncio.to_thread(folder.known)
        unnamed = [tensor for tensor in wanted if _place(tensor) not in names]
        if unnamed:
            names |= await self._names(file, unnamed, folder)
            await asyncio.to_thread(folder.remember, names)
        for tensor in wanted:
            await asyncio.to_thread(_copy, file.paths[tensor.part], tensor, folder.tensors / names[_place(tensor)])
        return sum(tensor.size_bytes for tensor in wanted)

    async def _names(self, file: ModelFile, tensors: Sequence[Tensor], folder: WeightFolder) -> Mapping[str, str]:
        """The hash of each tensor, by its place."""
        names: dict[str, str] = {}
        scratch = RpcServerOptions(self.log, device="CPU", binary=self.binary)
        async with running_rpc_server(scratch, self.launcher) as server:
            for number, path in enumerate(file.paths):
                here = [tensor for tensor in tensors if tensor.part == number]
                if here:
                    hashes = await self._hash(path, here, folder, server.address.port)
                    names |= {_place(tensor): hashes[tensor.offset] for tensor in here}
        return names

    async def _hash(self, path: Path, tensors: Iterable[Tensor], folder: WeightFolder, port: int) -> dict[int, str]:
        orders = folder.path / "orders"
        lines = [
            f"{tensor.offset} {_row_bytes(tensor)} {tensor.size_bytes // _row_bytes(tensor)}" for tensor in tensors
        ]
        await asyncio.to_thread(orders.write_text, "\n".join(lines))
        libraries = str(find_rpc_server(self.binary).library_dir)
        argv = [sys.executable, "-I", "-S", str(HASH_TENSORS), libraries, str(port), str(path), str(orders)]
        log_start = child_log.size_bytes(self.log)
        async with (
            asyncio.timeout(HASH_TIMEOUT_S),
            self.launcher.start(argv, {"LD_LIBRARY_PATH": libraries}, self.log) as child,
        ):
            status = await child.wait()
        said = child_log.read_from(self.log, log_start, MAX_HASH_LOG_BYTES)
        hashes = {int(offset): name for offset, name in HASHED.findall(said)}
        if status != 0 or len(hashes) != len(lines):
            last = " | ".join(child_log.last_lines(self.log, 2, log_start))
            raise EngineFailed(f"hashing the tensors of {path.name} failed: {last}", retryable=True)
        return hashes


def _place(tensor: Tensor) -> str:
    return f"{tensor.part}:{tensor.offset}:{tensor.size_bytes}"


def _row_bytes(tensor: Tensor) -> int:
    """A length that divides the tensor's: RPC counts each dimension in 32 bits."""
    rows = tensor.shape[1] if len(tensor.shape) > 1 else 1
    return tensor.size_bytes // rows if tensor.size_bytes % rows == 0 else tensor.size_bytes


def _copy(model: Path, tensor: Tensor, target: Path) -> None:
    """Make `target` the tensor's bytes, whole or not at all; the kernel copies, or shares the blocks where it can."""
    if target.exists() and target.stat().st_size == tensor.size_bytes:
        return
    unfinished = target.with_suffix(".part")
    with model.open("rb") as source, unfinished.open("wb") as sink:
        at, end = tensor.offset, tensor.offset + tensor.size_bytes
        while at < end:
            copied = _copy_range(source.fileno(), sink.fileno(), end - at, at)
            if not copied:
                raise OSError(f"{model} became shorter while a tensor was copied from it")
            at += copied
    unfinished.replace(target)


def _copy_range(source: int, sink: int, count: int, offset: int) -> int:
    try:
        return os.copy_file_range(source, sink, count, offset)
    except OSError:
        # Between file systems, or where the kernel has no such call.
        return os.write(sink, os.pread(source, min(count, 16 << 20), offset))
