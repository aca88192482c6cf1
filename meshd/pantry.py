"""The models of this node while it runs: those of the command line, and those given later.

Owns the shelf, which of them are in `llm.host`, and what is lent to others. Memory is `llm.engines.resident`'s, making
engines `meshd.engines`', how models come here `meshd.bringer`'s, what people type `meshd.model_commands`'.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from llm.changes import Changes
from llm.digest import DigestCache
from llm.engines.resident import ResidentEngine
from llm.gguf import BadModelFile, split_parts
from llm.host import Host, ServedModel
from llm.models.aside import run_aside
from llm.models.peers import Lending, LocalFiles
from llm.models.shelf import FILE_NAME as SHELF_NAME
from llm.models.shelf import Shelf, Shelved, read_shelf, write_shelf
from llm.offer import MAX_MODELS
from llm.purpose import find_projector
from llm.residency import Policy
from meshd.engines import Kitchen
from meshd.model_specs import BroughtSpec, EchoSpec, FileSpec, ModelSpec, model_name
from transport.blob_store import BlobStore

logger = logging.getLogger("meshd.models")


class Refused(Exception):
    """What was asked for cannot be done; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model on this disk. is_named: on the command line, which alone can take it away again.  problem: why it is not
    served; empty when it is.
    """

    name: str
    paths: tuple[Path, ...]
    size_bytes: int
    is_named: bool
    shelved: Shelved | None = None
    problem: str = ""


@dataclass(slots=True)
class Pantry:
    """specs: of the command line.  blobs: what lends the files.  Made before the mesh is known, for engines are."""

    kitchen: Kitchen
    specs: tuple[ModelSpec, ...]
    blobs: BlobStore
    host: Host = field(init=False)
    lending: Lending = field(init=False)
    digests: DigestCache = field(init=False)
    _shelf: Shelf = field(init=False)
    _local: dict[str, LocalModel] = field(default_factory=dict)
    _to_hash: list[str] = field(default_factory=list)
    _coming: set[str] = field(default_factory=set)
    _changes: Changes = field(default_factory=Changes)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        """Make every engine that can be made. Raises BadModelFile for the command line's, ShelfDamaged."""
        root = self.kitchen.directory.root
        self.digests = DigestCache(root / "digests.json")
        self.lending = Lending(self.blobs)
        self._shelf = read_shelf(self._shelf_file)
        self.host = Host([*self._named_models(), *self._shelved_models()])

    @property
    def _shelf_file(self) -> Path:
        return self.kitchen.directory.root / SHELF_NAME

    @property
    def folder(self) -> Path:
        """Of what was brought."""
        return self.kitchen.directory.root / "models" / "brought"

    # Reading

    @property
    def local(self) -> tuple[LocalModel, ...]:
        """What is on this disk."""
        return tuple(self._local.values())

    @property
    def wishes(self) -> tuple[Shelved, ...]:
        """What is wanted and not here yet."""
        return tuple(one for one in self._shelf.models if not one.paths)

    def has_brought(self, wanted: str) -> bool:
        """Whether what that wish meant is here."""
        return any(one.shelved and one.shelved.wanted == wanted and not one.problem for one in self.local)

    def has(self, name: str, identity: str) -> bool:
        """Whether the model of that name and SHA-256 is here. Raises Refused when another one has its name."""
        if not self._is_taken(name):
            return False
        if any((offer.name, offer.digest) == (name, identity) for offer in self.host.offers()):
            return True
        raise Refused(f"this node has another model called {name!r}; remove that one first")

    def resident(self, name: str) -> ResidentEngine | None:
        """The model's place in this node's memory, where it has one."""
        return self.kitchen.residence.get(name)

    # Running

    async def run(self) -> None:
        """Compute the SHA-256 of every file, one after the other, until cancelled; then each can be lent."""
        while True:
            while self._to_hash:
                await self._hash(self._to_hash.pop(0))
            await self._changes.wait()

    async def _hash(self, name: str) -> None:
        model = self._local.get(name)
        if model is None:
            return
        try:
            # Aside: a hundred gigabytes take minutes, which the end of the agent does not wait for.
            files = await run_aside(lambda stop: self._local_files(model.paths), f"hash {name}")
        except OSError as error:
            logger.warning("the files of model %s cannot be hashed: %s", name, error)
            return
        now = self._local.get(name)
        if now is not None and now.paths == model.paths:
            self.lending.add(name, files)
            self.host.identify(name, files.identity)
            logger.info("model %s is sha256 %s", name, files.identity[:16])

    def _local_files(self, paths: tuple[Path, ...]) -> LocalFiles:
        """Blocks: it hashes."""
        files, projector = self._local_files_of(paths), find_projector(paths[0])
        return replace(files, beside=self._local_files_of((projector,))) if projector is not None else files

    def _local_files_of(self, paths: tuple[Path, ...]) -> LocalFiles:
        return LocalFiles(paths, self.digests.each(paths), tuple(map(_size, paths)))

    # Giving and taking

    async def load(self, name: str, policy: Policy | None, *, now: bool) -> None:
        """Bring a model of this node into memory, or let its policy be another. Raises Refused."""
        engine = self._engine(name)
        model = self._local[name]
        if policy is not None and model.shelved is not None:
            await self._put(
                Shelved(name, model.shelved.paths, model.shelved.wanted, policy.value, model.shelved.is_ours)
            )
            self._remember(name, model.paths, self._shelf.find(name))
        if policy is not None:
            engine.pin(policy)
        if now:
            engine.load()
        self._changes.notify()

    async def unload(self, name: str) -> None:
        """Take a model out of this node's memory. Raises Refused, llm.engines.resident.Busy."""
        await self._engine(name).unload("somebody asked for it with meshd models unload")

    async def add_file(self, path: Path, policy: Policy | None, *, loads: bool) -> str:
        """Serve a file of this disk from now on, also after a restart; its name. Raises Refused, BadModelFile.

        policy: None for that which it has; lazy where it is new.
        """
        paths = await asyncio.to_thread(split_parts, path)
        name = model_name(path)
        known = self._local.get(name)
        if known is not None and known.paths == paths and not known.problem:
            await self.load(name, policy, now=loads)
            return name
        await self._serve(Shelved(name, tuple(map(str, paths)), "", (policy or Policy.LAZY).value), loads=loads)
        return name

    async def take_in(self, shelved: Shelved, digests: Sequence[str], *, loads: bool) -> None:
        """Serve a model that was brought. digests: of its files.  Raises Refused, BadModelFile."""
        if shelved.is_ours:  # else they were hashed here, and are known
            await asyncio.to_thread(self.digests.note, list(map(Path, shelved.paths)), digests)
        await self._serve(shelved, loads=loads)

    async def note_wish(self, wanted: str, policy: Policy) -> None:
        """Remember over restarts that this is to be brought."""
        if self._shelf.find(wanted) is None:
            await self._put(Shelved("", (), wanted, policy.value))

    async def drop_wish(self, wanted: str) -> None:
        """It is not to be brought any more; nothing where it was."""
        wish = self._shelf.find(wanted)
        if wish is not None and not wish.paths:
            await self._take(wish)

    async def remove(self, name: str) -> tuple[Path, ...]:
        """Forget a model, and delete the files that meshd brought; which. Raises Refused."""
        model = self.removable(name)
        del self._local[name]
        self.kitchen.splitting.forget(name)
        self.lending.remove(name)
        if any(offer.name == name for offer in self.host.offers()):
            await self.host.remove(name)
        shelved = model.shelved
        assert shelved is not None, "removable says so"
        await self._take(shelved)
        self._changes.notify()
        paths = await asyncio.to_thread(deletes, model)
        await asyncio.to_thread(_delete, paths)
        return paths

    def removable(self, name: str) -> LocalModel:
        """The model of that name, which nothing keeps from being removed. Raises Refused."""
        model = self._local.get(name)
        if model is None:
            raise Refused(f"there is no model {name!r} on this node; {self._listed()}")
        if model.shelved is None:
            raise Refused(f"model {name!r} was named when meshd started: leave it out of --model, --lazy or meshd.toml")
        engine = self.resident(name)
        if engine is not None and (engine.held_bytes or engine.is_wanted):
            raise Refused(f"model {name!r} is in memory: `meshd models unload {name}` first")
        return model

    # Serving

    async def _serve(self, shelved: Shelved, *, loads: bool) -> None:
        """Offer a model that has just come here, and keep it on the shelf. Raises Refused, BadModelFile."""
        name = shelved.name
        if self._is_taken(name):
            raise Refused(f"this node has another model called {name!r}; rename the file, or remove that one")
        if len(self.host.offers()) >= MAX_MODELS:
            raise Refused(f"a node offers at most {MAX_MODELS} models; remove one first")
        self._coming.add(name)
        try:
            served = await asyncio.to_thread(
                self.kitchen.make, FileSpec(name, Path(shelved.paths[0]), shelved.policy == "lazy")
            )
            await self._put(shelved)
        finally:
            self._coming.discard(name)
        self.host.add(served)
        self._remember(name, tuple(map(Path, shelved.paths)), shelved)
        self._to_hash.append(name)
        self._changes.notify()
        if loads:
            self._engine(name).load()

    def _is_taken(self, name: str) -> bool:
        local = self._local.get(name)
        is_here = (local is not None and not local.problem) or any(offer.name == name for offer in self.host.offers())
        return is_here or name in self._coming

    def _named_models(self) -> list[ServedModel]:
        served = []
        for spec in self.specs:
            if isinstance(spec, FileSpec | EchoSpec):
                served.append(self.kitchen.make(spec))
            if isinstance(spec, FileSpec):
                self._remember(spec.name, split_parts(spec.path), None)
                self._to_hash.append(spec.name)
        return served

    def _shelved_models(self) -> list[ServedModel]:
        """Those whose files are all here; of the others it is known why not."""
        served = []
        named = {spec.name for spec in self.specs}
        for shelved in self._shelf.models:
            if not shelved.paths or shelved.name in named:
                continue
            paths = tuple(map(Path, shelved.paths))
            try:
                spec = FileSpec(shelved.name, paths[0], shelved.policy == "lazy" and not self._is_pinned(shelved))
                served.append(self.kitchen.make(spec))
            except (BadModelFile, OSError) as error:
                logger.warning("model %s is not served: %s", shelved.name, error)
                self._remember(shelved.name, paths, shelved, str(error))
                continue
            self._remember(shelved.name, paths, shelved)
            self._to_hash.append(shelved.name)
        return served

    def _is_pinned(self, shelved: Shelved) -> bool:
        """Whether the command line wants it loaded."""
        return any(
            isinstance(one, BroughtSpec) and one.name == shelved.wanted and not one.is_lazy for one in self.specs
        )

    def _remember(self, name: str, paths: tuple[Path, ...], shelved: Shelved | None, problem: str = "") -> None:
        size_bytes = 0 if problem else sum(map(_size, paths))
        self._local[name] = LocalModel(name, paths, size_bytes, shelved is None, shelved, problem)

    def _engine(self, name: str) -> ResidentEngine:
        engine = self.resident(name)
        if engine is None or name not in self._local:
            if name not in self._local and not self._is_taken(name):
                raise Refused(f"there is no model {name!r} on this node; {self._listed()}")
            problem = self._local[name].problem if name in self._local else ""
            raise Refused(f"model {name!r} cannot be loaded or unloaded: {problem or 'it is not made of files'}")
        return engine

    def _listed(self) -> str:
        names = ", ".join(self._local)
        return f"here are: {names}" if names else "it has none"

    async def _put(self, model: Shelved) -> None:
        self._shelf = self._shelf.put(model)
        await self._keep_shelf()

    async def _take(self, model: Shelved) -> None:
        self._shelf = self._shelf.without(model)
        await self._keep_shelf()

    async def _keep_shelf(self) -> None:
        """Write it down. When the disk fails, the node goes by it all the same until its next start."""
        try:
            async with self._writing:  # or an older shelf might be written last
                await asyncio.to_thread(write_shelf, self._shelf_file, self._shelf)
        except OSError as error:
            logger.error("the models of this node cannot be written down and are forgotten at a restart: %s", error)


def _size(path: Path) -> int:
    return path.stat().st_size


def deletes(model: LocalModel) -> tuple[Path, ...]:
    """What removing it deletes: the files that meshd brought, which lie in a folder of their own. Reads it."""
    if model.shelved is None or not model.shelved.is_ours:
        return ()
    projector = find_projector(model.paths[0])
    return (*model.paths, projector) if projector is not None else model.paths


def _delete(paths: tuple[Path, ...]) -> None:
    if not paths:
        return
    for path in paths:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # something else lies there
        paths[0].parent.rmdir()
