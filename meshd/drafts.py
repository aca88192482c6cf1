"""Who drafts for a model of this node: what `--draft` names, or what is beside the model and fits it.

How two files fit is `llm.pairing`'s, whether it pays is measured by the engine (`llm.engines.trial`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from llm.engines.drafts import Draft, DraftChoice
from llm.gguf import BadModelFile, ModelFile, read_header
from llm.models.selection import parse_hub_spec
from llm.models.shelf import FILE_NAME as SHELF_NAME
from llm.models.shelf import ShelfDamaged, read_shelf
from llm.pairing import best, has_heads, has_own_heads, pair, why_no_heads
from meshd.datadir import DataDir

logger = logging.getLogger("meshd.models")

MOST_LOOKED_AT = 16
"""Files whose heads are read for one that could draft: a head with a large vocabulary takes some 50 ms."""


@dataclass(frozen=True, slots=True)
class Drafts:
    """wanted: what `--draft` says: a file, a name, hf:…, ngram, auto or none; empty for none."""

    wanted: str
    directory: DataDir

    def choose(self, file: ModelFile) -> DraftChoice | None:
        """Who drafts for `file`. Raises BadModelFile where what was named does not fit it."""
        match self.wanted:
            case "" | "none":
                return None
            case "ngram":
                return "ngram"
            case "auto":
                return self._fitting(file)
            case _:
                path = self._path()
                return None if path is None or path in file.paths else _paired(file, path)

    def _fitting(self, file: ModelFile) -> DraftChoice:
        """Its own heads, else what is beside it, else n-grams, which take no memory."""
        if has_own_heads(file):
            return "own-heads"
        found = best(file, list(beside(file, self.directory)))
        if found is None or found[1].kind is None:
            return "ngram"
        return Draft(found[0].paths[0], kind=found[1].kind)

    def _path(self) -> Path | None:
        """Where the draft lies, None for one that is still to be brought. Raises BadModelFile."""
        path = Path(self.wanted).expanduser()
        if path.is_file():
            return path.resolve()
        spec = parse_hub_spec(self.wanted)
        shelved = read_shelf(self.directory.root / SHELF_NAME).find(spec.name if spec is not None else self.wanted)
        if shelved is not None and shelved.paths:
            return Path(shelved.paths[0])
        if spec is None:
            raise BadModelFile(
                f"--draft {self.wanted}: there is no such file, nor a model of that name on this node; expected a GGUF "
                "file, hf:OWNER/REPOSITORY, ngram, auto or none"
            )
        logger.warning("the draft %s is not here yet: what loads before it comes does without", self.wanted)
        return None


def _paired(file: ModelFile, path: Path) -> Draft:
    how = pair(file, read_header(path))
    if how.kind is None:
        raise BadModelFile(
            f"--draft {path}: it cannot propose tokens to {file.paths[0].name}: {how.reason}; use what was made for "
            "this model, or a smaller one of the same family, or auto, or none"
        )
    return Draft(path, kind=how.kind)


def beside(file: ModelFile, directory: DataDir) -> Iterator[ModelFile]:
    """Smaller models, the smallest first; of equals, what lies beside it goes before what is on this node's shelf."""
    try:
        shelved = [Path(one.paths[0]) for one in read_shelf(directory.root / SHELF_NAME).models if one.paths]
    except ShelfDamaged as error:
        logger.warning("no draft is looked for on the shelf: %s", error)
        shelved = []
    home = file.paths[0].parent
    paths = {path for path in (*home.glob("*.gguf"), *shelved) if path.is_file()} - {*file.paths}
    smaller = sorted((path.stat().st_size, path.parent != home, path) for path in paths)
    for size, _, path in islice(smaller, MOST_LOOKED_AT):
        if size >= file.file_bytes:
            return
        try:
            yield read_header(path)
        except BadModelFile as error:
            logger.debug("%s drafts for nobody: %s", path.name, error)


def words_of_drafts(file: ModelFile, directory: DataDir) -> str:
    """What could draft for `file` here, for people."""
    if not file.paths[0].is_file():
        return "the model's file is not on this node: what could draft for it, the node that serves it can say"
    if has_own_heads(file):
        return "its own heads could draft (draft-mtp): --draft auto"
    found = best(file, list(beside(file, directory)))
    if found is None:
        heads = f"{why_no_heads(file)}; " if has_heads(file) else ""
        free = "--draft ngram takes no memory, and pays where texts repeat themselves"
        return f"{heads}no model beside it could draft; {free}"
    draft, how = found
    return f"{draft.paths[0].name} could draft ({how.reason}): --draft auto"
