"""The models that a person gave this node while it ran, kept in one small file: none is forgotten at a restart.

What `--model` and `--lazy` name is not on it. Blocks on the disk: call `write` in a thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from transport.whole_file import replace_file

VERSION = 1
FILE_NAME = "models.json"
"""Of the shelf, in the data directory."""


class ShelfDamaged(Exception):
    """The file does not hold a shelf; the message names it and says what to do."""


@dataclass(frozen=True, slots=True)
class Shelved:
    """One model. name: in the mesh; "" while it is not here yet.  paths: its files, in order; none while it is not.

    wanted: what was asked for, a spec or a name of the mesh; "" for a file that was here.  policy: how it stays.
    is_ours: meshd brought the files, so that it may delete them.
    """

    name: str
    paths: tuple[str, ...] = ()
    wanted: str = ""
    policy: Literal["pinned", "lazy"] = "lazy"
    is_ours: bool = False


@dataclass(frozen=True, slots=True)
class Shelf:
    """All of them, oldest first."""

    models: tuple[Shelved, ...] = ()
    version: int = VERSION

    def find(self, name: str) -> Shelved | None:
        """By its name in the mesh, or by what was asked for."""
        return next((one for one in self.models if name and name in (one.name, one.wanted)), None)

    def put(self, model: Shelved) -> Shelf:
        """With `model`, in place of what has its name or was the same wish."""
        return Shelf((*(one for one in self.models if not _is_same(one, model)), model))

    def without(self, model: Shelved) -> Shelf:
        return Shelf(tuple(one for one in self.models if one != model))


def _is_same(one: Shelved, other: Shelved) -> bool:
    return (bool(one.name) and one.name == other.name) or (bool(one.wanted) and one.wanted == other.wanted)


def read_shelf(path: Path) -> Shelf:
    """What is on it; nothing where there is no file. Raises ShelfDamaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Shelf()
    try:
        shelf = msgspec.json.decode(content, type=Shelf)
    except msgspec.MsgspecError as error:
        raise ShelfDamaged(f"{path} does not list models ({error}); delete it, and load them again") from error
    if shelf.version != VERSION:
        raise ShelfDamaged(f"{path} was written by another version of meshd ({shelf.version}); delete it to go on")
    return shelf


def write_shelf(path: Path, shelf: Shelf) -> None:
    """Replace it whole."""
    replace_file(path, msgspec.json.format(msgspec.json.encode(shelf), indent=1))
