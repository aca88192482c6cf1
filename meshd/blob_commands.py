"""What the control door can be asked about blobs: to list, put, find and remove them."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from forms.blobs import FormBlobs
from forms.errors import FormFailed
from meshd.control import Command, CommandFailed
from transport.blob_message import PIECE_BYTES, BlobDigest
from transport.local_blobs import Incoming

DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class BlobCommands:
    """blobs: those of this node."""

    blobs: FormBlobs

    def table(self) -> dict[str, Command]:
        """Every command by its name."""
        return {
            "blobs": self._list,
            "blob_put": self._put,
            "blob_find": self._find,
            "blob_remove": self._remove,
        }

    async def _list(self, arguments: dict[str, Any]) -> dict[str, Any]:
        now = await self.blobs.local.holdings()
        return {
            "blobs": [
                {"digest": blob.digest.hex(), "size_bytes": blob.size_bytes, "is_copy": blob.is_copy}
                for blob in now.blobs
            ],
            "used_bytes": now.used_bytes,
            "quota_bytes": now.quota_bytes,
        }

    async def _put(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """path: of a file on this host."""
        path = Path(_text(arguments, "path"))
        try:
            with await asyncio.to_thread(path.open, "rb") as file:
                size = await asyncio.to_thread(_length, path)
                async with self.blobs.taking_in(size) as incoming:
                    await _append(file, size, incoming)
                    digest = await incoming.complete()
        except (FormFailed, OSError) as error:
            raise CommandFailed(str(error)) from error
        return {"digest": digest.hex(), "size_bytes": size}

    async def _find(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Where a blob lies on this host, pulled from a peer when it was not here."""
        digest = _digest(arguments)
        try:
            await self.blobs.bring([digest])
            path = await self.blobs.local.path(digest)
        except FormFailed as error:
            raise CommandFailed(str(error)) from error
        return {"digest": digest.hex(), "path": str(path)}

    async def _remove(self, arguments: dict[str, Any]) -> dict[str, Any]:
        digest = _digest(arguments)
        if not await self.blobs.local.remove(digest):
            raise CommandFailed(f"no blob {digest.hex()} on this node; `meshd blob list` shows what there is")
        return {"digest": digest.hex()}


async def _append(file: BinaryIO, size: int, incoming: Incoming) -> None:
    """The first `size` bytes of the file. Raises CommandFailed when it shrank meanwhile."""
    left = size
    while left:
        piece = await asyncio.to_thread(file.read, min(left, PIECE_BYTES))
        if not piece:
            raise CommandFailed(f"the file had {size} bytes, and lost {left} of them meanwhile")
        left -= len(piece)
        await incoming.append(piece)


def _length(path: Path) -> int:
    return path.stat().st_size


def _digest(arguments: dict[str, Any]) -> BlobDigest:
    text = _text(arguments, "digest")
    if not DIGEST.fullmatch(text):
        raise CommandFailed(f"expected a SHA-256 as 64 lower-case hex digits, got {text[:70]!r}")
    return BlobDigest(bytes.fromhex(text))


def _text(arguments: dict[str, Any], key: str) -> str:
    value = arguments.get(key)
    if not isinstance(value, str) or not value:
        raise CommandFailed(f"expected {key} as text")
    return value
