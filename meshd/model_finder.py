"""Finds out which files a wish means and who has them: `hf:owner/repo[:quant]`, or a name of the mesh or catalogue."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from llm.client import Views
from llm.digest import DigestCache
from llm.errors import UnknownModel
from llm.models import hub
from llm.models.aside import run_aside
from llm.models.fetch import FetchFailed, WantedFile, Wish
from llm.models.message import PeerFile
from llm.models.peers import ask_files
from llm.models.selection import (
    FILE_NAME,
    HubFile,
    HubSpec,
    NotChosen,
    choose,
    choose_projector,
    identity_of,
    parse_hub_spec,
)
from llm.offer import Hosting, MeshModel, catalogue, find, hostings
from llm.purpose import find_projector
from meshd.model_specs import model_name
from transport.errors import MeshError
from transport.identity import short
from transport.interface import NodeId, Transport

logger = logging.getLogger("meshd.models")

HUB_DEADLINE_S = 90.0
DIGEST_DEADLINE_S = 300.0
"""Hashing a large model takes its host minutes."""
FILE_KINDS = ("llama_server",)
"""Kinds of engines whose models are files."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Found:
    """What to bring, or where it is already: in the cache that huggingface_hub keeps for all programs."""

    wish: Wish
    cached: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """What the model will be called."""
        return model_name(Path(self.wish.files[0].name))


@dataclass(frozen=True, slots=True)
class ModelFinder:
    """views: the mesh as this node sees it."""

    transport: Transport
    views: Views
    digests: DigestCache

    async def find(self, wanted: str, say: Say) -> Found:
        """say: told what is waited for. Raises FetchFailed."""
        spec = parse_hub_spec(wanted)
        # A name in the mesh is that model, whatever the catalogue calls so.
        if spec is None or find(wanted, self.views.view) is not None:
            return await self._of_mesh(wanted, say)
        return await self._of_hub(spec, say)

    # The hub

    async def _of_hub(self, spec: HubSpec, say: Say) -> Found:
        say("asking the hub what there is")
        try:
            async with asyncio.timeout(HUB_DEADLINE_S):
                listing = await run_aside(lambda stop: hub.list_files(spec.repo), f"list {spec.repo}")
            files = choose(spec, listing.files)
        except TimeoutError as error:
            raise FetchFailed(f"the hub did not answer within {HUB_DEADLINE_S:.0f} s", is_weather=True) from error
        except hub.HubFailed as error:
            raise FetchFailed(str(error), is_weather=error.is_weather) from error
        except NotChosen as error:
            raise FetchFailed(str(error)) from error
        projector = choose_projector(files, listing.files)
        beside = (projector,) if projector is not None else ()
        if unsure := [file.path for file in (*files, *beside) if not file.sha256]:
            raise FetchFailed(f"the hub does not say the SHA-256 of {unsure[0]}, so it cannot be checked")
        holders = self._holders(identity_of([file.sha256 for file in files]))
        wish = Wish(_wanted(files), holders, listing, _wanted(beside))
        say("looking whether another program has downloaded it")
        look = lambda stop: self._cached(listing, files, beside, stop)  # noqa: E731
        return Found(wish, await run_aside(look, "look into the cache"))

    def _cached(
        self, listing: hub.Listing, files: Sequence[HubFile], beside: Sequence[HubFile], stop: threading.Event
    ) -> tuple[Path, ...]:
        """Where the library's cache has all of the model, whole, and what belongs beside it; nothing when it lacks any.

        Blocks: it may have to hash.
        """
        paths = [hub.find_cached(listing, file) for file in (*files, *beside)]
        here = tuple(path for path in paths if path is not None)
        if len(here) < len(paths) or (beside and find_projector(here[0]) != here[-1]):
            return ()
        if self.digests.each(here) == tuple(file.sha256 for file in (*files, *beside)):
            return here[: len(files)]
        logger.warning("%s in the cache of huggingface_hub is damaged, and not used", here[0])
        return ()

    def _holders(self, identity: str) -> tuple[NodeId, ...]:
        """Nodes that offer the model with this SHA-256, under whatever name, nearest first."""
        view = self.views.view
        return _nearest([one for one in hostings(view) if one.offer.digest == identity and one.node is not view.me])

    # The mesh

    async def _of_mesh(self, name: str, say: Say) -> Found:
        model = self._model(name)
        identity = await self._identity(name, say)
        peers = _nearest([one for one in model.hostings if one.offer.digest == identity])
        problems = []
        for node in peers:
            try:
                files = await ask_files(self.transport, node, identity)
            except MeshError as error:
                problems.append(str(error))
                continue
            if files is not None:
                wanted = named_after(name.partition("@")[0], files.files)
                beside = tuple(WantedFile(one.name, one.size, one.digest.hex()) for one in files.beside)
                return Found(Wish(wanted, peers, beside=beside))
            problems.append(f"node {short(node)} does not lend it")
        why = "; ".join(problems) or "no node that has it is linked to this one"
        raise FetchFailed(f"nobody gives the files of {name!r}: {why}", is_weather=True)

    def _model(self, name: str) -> MeshModel:
        view = self.views.view
        model = find(name, view)
        if model is None:
            known = [one.name for one in catalogue(view)]
            raise FetchFailed(f"{UnknownModel(name, known)}; or name hf:OWNER/REPOSITORY or a file", is_weather=True)
        if not any(one.offer.kind in FILE_KINDS for one in model.hostings):
            raise FetchFailed(f"model {name!r} is not made of files that could be brought here")
        return model

    async def _identity(self, name: str, say: Say) -> str:
        """The SHA-256 that its hosts tell, once one has computed it."""
        try:
            async with asyncio.timeout(DIGEST_DEADLINE_S):
                while True:
                    version = self.views.view.version
                    told = {one.offer.digest for one in self._model(name).hostings} - {""}
                    if told:
                        return min(told)
                    say("waiting until a node that has it has computed its SHA-256")
                    await self.views.changed(version)
        except TimeoutError as error:
            raise FetchFailed(f"no node has told the SHA-256 of {name!r} yet", is_weather=True) from error


def _wanted(files: Sequence[HubFile]) -> tuple[WantedFile, ...]:
    return tuple(WantedFile(file.file_name, file.size, file.sha256, file) for file in files)


def _nearest(found: list[Hosting]) -> tuple[NodeId, ...]:
    usable = [one.node for one in found if one.node.is_usable and one.node.linked and one.offer.kind in FILE_KINDS]
    return tuple(node.node for node in sorted(usable, key=lambda node: (node.rtt_ms or 0.0, node.node)))


def named_after(name: str, files: Sequence[PeerFile]) -> tuple[WantedFile, ...]:
    """The files under the name that was asked for: the same bytes may have another one there."""
    count = len(files)
    parts = [f"{name}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]
    names = parts if count > 1 else [f"{name}.gguf"]
    if not FILE_NAME.match(names[0]) or model_name(Path(names[0])) != name:
        raise FetchFailed(f"{name!r} cannot be the name of a file, so the model cannot be brought here under it")
    return tuple(WantedFile(to, file.size, file.digest.hex()) for to, file in zip(names, files, strict=True))
