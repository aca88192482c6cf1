"""This node's folder of blobs as the forms that compute here see it: files by SHA-256 or by path, and none outside."""

from __future__ import annotations

import re
from pathlib import Path

from forms.arguments import shown
from forms.errors import NotFound
from transport.blob_store import COPIES, PARTIAL

DIGEST = re.compile(r"[0-9a-f]{64}")


class BlobFolder:
    """root: the folder; None for a node that has none."""

    def __init__(self, root: Path | None) -> None:
        self._root = root.resolve() if root is not None else None

    def blob(self, digest: str) -> Path:
        """The file of a blob by its SHA-256 in lower-case hex. Raises NotFound."""
        if not DIGEST.fullmatch(digest):
            raise NotFound(f"expected the SHA-256 of a blob in hex, got {shown(digest)}")
        return self.find(digest)

    def find(self, name: str) -> Path:
        """The file that a SHA-256 or a path means. Raises NotFound, also for one outside, by a link or by dots."""
        if self._root is None:
            raise NotFound("this node has no folder of blobs")
        # What other nodes gave lies apart; only a digest names it, and never what has not come whole.
        path = self._inside(self._root, name) or self._inside(self._root / COPIES, name)
        if path is None:
            raise NotFound(f"no blob {shown(name)} in this node's folder of blobs")
        return path

    def _inside(self, folder: Path, name: str) -> Path | None:
        """The file of that name below `folder`, links followed; None where there is none, or it lies outside."""
        assert self._root is not None
        try:
            path = (folder / name).resolve()
            is_here = path.is_relative_to(self._root) and path.is_file()
        except (OSError, ValueError):
            return None
        return path if is_here and not path.is_relative_to(self._root / PARTIAL) else None
