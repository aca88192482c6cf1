"""The folders in which RPC servers keep large tensors between loads, one for each leader and model, within a quota.

A folder is its leader's alone: FNV-1a is no cryptographic hash, and a tensor that one leader sent must never be taken
for another's. `ggml-rpc-server --cache` reads and writes below `rpc/`; `weights` fills that from the node's own file.
Blocks on the disk: call it in a thread.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from transport.identity import short
from transport.interface import NodeId
from transport.whole_file import replace_file

DEFAULT_QUOTA_BYTES = 512 << 30
DISK_RESERVE_BYTES = 2 << 30
"""What is left free on the disk for everything else."""


@dataclass(frozen=True, slots=True)
class WeightFolder:
    """What one leader's RPC server keeps of one model. path: its LLAMA_CACHE."""

    path: Path

    @property
    def tensors(self) -> Path:
        return self.path / "rpc"

    @property
    def held_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.tensors.glob("*"))

    def known(self) -> dict[str, str]:
        """Name of each tensor of the model whose hash was computed before, by where it lies in which file."""
        try:
            read = json.loads((self.path / "names.json").read_text())
        except (OSError, ValueError):
            return {}  # a lost list only costs the time to hash again
        return {str(place): str(name) for place, name in read.items()} if isinstance(read, dict) else {}

    def remember(self, names: dict[str, str]) -> None:
        replace_file(self.path / "names.json", json.dumps(self.known() | names, indent=1).encode())


class WeightCache:
    """Every such folder below `root`. quota_bytes: of all together; what was not used for longest goes first."""

    def __init__(self, root: Path, quota_bytes: int = DEFAULT_QUOTA_BYTES) -> None:
        self._root = root
        self._quota_bytes = quota_bytes

    def open(self, leader: NodeId, fingerprint: str, room_bytes: int) -> WeightFolder | None:
        """The folder for `leader`'s model, with room for so much in all; None where disk or quota have none."""
        folder = WeightFolder(self._root / f"{short(leader)}-{fingerprint[:16]}")
        folder.tensors.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.utime(folder.path)
        more_bytes = max(0, room_bytes - folder.held_bytes)
        if not self._make_room(more_bytes, folder):
            return None
        return folder

    def _make_room(self, more_bytes: int, keep: WeightFolder) -> bool:
        others = [WeightFolder(path) for path in self._root.iterdir() if path.is_dir() and path != keep.path]
        others.sort(key=lambda folder: folder.path.stat().st_mtime, reverse=True)
        if not self._could_have_room(more_bytes, keep, others):
            return False  # and nothing of others goes for it
        while not self._has_room(more_bytes, [keep, *others]):
            if not others:
                return False
            shutil.rmtree(others.pop().path)
        return True

    def _could_have_room(self, more_bytes: int, keep: WeightFolder, others: list[WeightFolder]) -> bool:
        could_go = sum(folder.held_bytes for folder in others)
        free = shutil.disk_usage(self._root).free - DISK_RESERVE_BYTES
        return keep.held_bytes + more_bytes <= self._quota_bytes and more_bytes <= free + could_go

    def _has_room(self, more_bytes: int, folders: list[WeightFolder]) -> bool:
        held = sum(folder.held_bytes for folder in folders)
        free = shutil.disk_usage(self._root).free - DISK_RESERVE_BYTES
        return held + more_bytes <= self._quota_bytes and more_bytes <= free
