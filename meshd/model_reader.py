"""What a model says of itself, wherever its files are: on this disk, on another node's, or on the hub."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from llm.digest import fingerprint
from llm.gguf import BadModelFile, ModelFile, read_header
from llm.models.fetch import Fetcher, FetchFailed
from llm.models.heads import read_head
from llm.models.selection import parse_hub_spec
from llm.offer import find
from meshd.bringer import LINKING_S
from meshd.model_finder import Found, ModelFinder
from meshd.pantry import Pantry
from transport.errors import MeshError
from transport.interface import Transport

NO_LIMIT_BYTES = 1 << 62
"""Only a model's beginning is fetched, so it matters not whether all of it would fit on the disk."""


LOOK_AGAIN_S = 0.5


class NotRead(Exception):
    """Nobody tells what the model is; the message says why."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """name: as it was asked for.  fingerprint: as its offers have it, "" where nobody offers it."""

    name: str
    file: ModelFile
    fingerprint: str


@dataclass(frozen=True, slots=True)
class ModelReader:
    """Reads models of this node, of the mesh and of the hub by the names that `meshd models` takes, or by a path."""

    pantry: Pantry
    finder: ModelFinder
    transport: Transport

    async def read(self, named: str) -> KnownModel:
        """Raises NotRead."""
        try:
            path = self._path(named)
            if path is not None:
                file = await asyncio.to_thread(read_header, path)
                return KnownModel(named, file, fingerprint(file.paths, file.header_bytes))
            return await self._elsewhere(named)
        except (BadModelFile, FetchFailed, MeshError, OSError) as error:
            raise NotRead(str(error)) from error

    def _path(self, named: str) -> Path | None:
        """Where it lies on this disk."""
        spec = parse_hub_spec(named)
        wanted = spec.name if spec is not None else named
        if named.endswith(".gguf"):
            return Path(named).expanduser()
        for model in self.pantry.local:
            if not model.problem and (model.name == wanted or (model.shelved and model.shelved.wanted == wanted)):
                return model.paths[0]
        return None

    async def _elsewhere(self, named: str) -> KnownModel:
        found = await self._found(named)
        if found.cached:
            file = await asyncio.to_thread(read_header, found.cached[0])
        else:
            file = await read_head(found.wish, self.pantry.folder, self._fetcher)
        offered = find(named, self.finder.views.view)
        return KnownModel(named, file, offered.hostings[0].offer.fingerprint if offered is not None else "")

    async def _found(self, named: str) -> Found:
        """Raises FetchFailed, after a while for a model whose node is about to be linked."""
        now = asyncio.get_running_loop().time
        until = now() + LINKING_S
        while True:
            try:
                return await self.finder.find(named, _unsaid)
            except FetchFailed as error:
                is_known = find(named, self.finder.views.view) is not None
                if not (error.is_weather and is_known and now() < until):
                    raise
            await asyncio.sleep(LOOK_AGAIN_S)

    def _fetcher(self, folder: Path) -> Fetcher:
        return Fetcher(self.transport, folder, lambda _: NO_LIMIT_BYTES)


def _unsaid(words: str) -> None:
    """Who asks for a plan waits seconds at most, and is told nothing meanwhile."""
