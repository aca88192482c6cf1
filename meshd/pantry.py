"""The models of this node while it runs: those of the command line, those given later, and those on their way.

Owns the shelf, which of them are in `llm.host`, and the transfers. Memory is `llm.engines.resident`'s, making engines
`meshd.engines`', what people type `meshd.model_commands`'.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm.changes import Changes
from llm.digest import DigestCache
from llm.engines.resident import ResidentEngine
from llm.gguf import BadModelFile, split_parts
from llm.host import Host, ServedModel
from llm.models.fetch import Fetcher, FetchFailed
from llm.models.peers import Lending, LocalFiles
from llm.models.selection import identity_of, parse_hub_spec
from llm.models.shelf import Shelf, Shelved, read_shelf, write_shelf
from llm.residency import Policy
from meshd.bringing import Bringing, Stage
from meshd.engines import Kitchen
from meshd.model_finder import Found, ModelFinder
from meshd.model_specs import BroughtSpec, EchoSpec, FileSpec, ModelSpec, model_name
from transport.blob_store import BlobStore
from transport.blobs import Blobs
from transport.errors import MeshError
from transport.interface import Stream

logger = logging.getLogger("meshd.models")

AT_ONCE = 2
"""Models that are brought at the same time; the others wait."""
RETRY_S = (5.0, 10.0, 30.0, 60.0)
LOOK_AGAIN_S = 2.0
"""How often a model that nobody offers is looked for: that asks nobody."""
HEARING_S = 3.0
"""After a start the mesh is not known yet, and who in it has a file is asked before the internet."""
MAX_REMEMBERED = 16
"""Bringings that are over, kept so that whoever asked can read how they ended."""


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
    """Made before the mesh is known, for engines are; `attach` says what it is."""

    kitchen: Kitchen
    specs: tuple[ModelSpec, ...]
    host: Host = field(init=False)
    lending: Lending = field(init=False)
    digests: DigestCache = field(init=False)
    _shelf: Shelf = field(init=False)
    _local: dict[str, LocalModel] = field(default_factory=dict)
    _bringings: dict[str, Bringing] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _to_hash: list[str] = field(default_factory=list)
    _changes: Changes = field(default_factory=Changes)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _group: asyncio.TaskGroup | None = None
    _finder: ModelFinder | None = None
    _fetcher: Fetcher | None = None
    _blobs: Blobs | None = None

    def __post_init__(self) -> None:
        """Make every engine that can be made. Raises BadModelFile for the command line's, ShelfDamaged."""
        root = self.kitchen.directory.root
        self.digests = DigestCache(root / "digests.json")
        self.lending = Lending(BlobStore(root / "models" / "lent", 0))
        self._shelf = read_shelf(self._shelf_file)
        self.host = Host([*self._named_models(), *self._shelved_models()])

    @property
    def _shelf_file(self) -> Path:
        return self.kitchen.directory.root / "models.json"

    @property
    def folder(self) -> Path:
        """Of what was brought."""
        return self.kitchen.directory.root / "models" / "brought"

    def attach(self, finder: ModelFinder) -> None:
        """Say where models can be found, before anything is asked for."""
        self._finder = finder
        self._fetcher = Fetcher(finder.transport, self.folder)
        self._blobs = Blobs(finder.transport, self.lending.store)

    # Reading

    @property
    def local(self) -> tuple[LocalModel, ...]:
        """What is on this disk."""
        return tuple(self._local.values())

    @property
    def bringings(self) -> tuple[Bringing, ...]:
        """What is on its way, and what lately was."""
        return tuple(self._bringings.values())

    def resident(self, name: str) -> ResidentEngine | None:
        """The model's place in this node's memory, where it has one."""
        return self.kitchen.residence.get(name)

    async def changed(self) -> None:
        """Wait until a model or a bringing is next somewhere else."""
        await self._changes.wait()

    # Running

    async def run(self) -> None:
        """Bring what is wanted, hash what is here and lend it, until cancelled."""
        async with self._lent, asyncio.TaskGroup() as group:
            self._group = group
            try:
                for spec in self.specs:
                    if isinstance(spec, BroughtSpec) and self._here(spec.name) is None:
                        policy = Policy.LAZY if spec.is_lazy else Policy.PINNED
                        self.bring(spec.name, policy, loads=not spec.is_lazy, is_patient=True)
                for shelved in self._shelf.models:
                    if not shelved.paths and shelved.wanted not in self._bringings:
                        self.bring(shelved.wanted, Policy(shelved.policy), loads=False, is_patient=True)
                await self._hash_all()
            finally:
                self._group = None

    async def _hash_all(self) -> None:
        """Compute the SHA-256 of every file, one after the other; then it can be lent."""
        while True:
            while self._to_hash:
                await self._hash(self._to_hash.pop(0))
            await self._changes.wait()

    async def _hash(self, name: str) -> None:
        model = self._local.get(name)
        if model is None:
            return
        try:
            digests = await asyncio.to_thread(self.digests.each, model.paths)
            sizes = tuple([await asyncio.to_thread(_size, path) for path in model.paths])
        except OSError as error:
            logger.warning("the files of model %s cannot be hashed: %s", name, error)
            return
        files = LocalFiles(model.paths, digests, sizes)
        if self._local.get(name) is model:
            self.lending.add(name, files)
            self.host.identify(name, files.identity)
            logger.info("model %s is sha256 %s", name, files.identity[:16])

    @property
    def _lent(self) -> Blobs:
        assert self._blobs is not None, "attach comes first"
        return self._blobs

    async def serve_blob(self, stream: Stream) -> None:
        """Give a file of this node to another. Raises MeshError."""
        await self._lent.serve(stream)

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

    async def add_file(self, path: Path, policy: Policy, *, loads: bool) -> str:
        """Serve a file of this disk from now on, also after a restart; its name. Raises Refused, BadModelFile."""
        paths = await asyncio.to_thread(split_parts, path)
        name = model_name(path)
        known = self._local.get(name)
        if known is not None and known.paths == paths and not known.problem:
            await self.load(name, policy, now=loads)
            return name
        await self._serve(Shelved(name, tuple(map(str, paths)), "", policy.value), loads=loads)
        return name

    def bring(self, wanted: str, policy: Policy, *, loads: bool, is_patient: bool = False) -> Bringing:
        """Begin to bring a model here, unless it is on its way. Raises Refused."""
        if self._group is None:
            raise Refused("this node hosts nothing, so it needs no models: ask for them over its API")
        bringing = self._bringings.get(wanted)
        if bringing is not None and not bringing.is_over:
            return bringing
        bringing = Bringing(wanted, policy, loads, is_patient)
        self._forget_old_bringings()
        self._bringings[wanted] = bringing
        self._tasks[wanted] = self._group.create_task(
            self._run(self._bring(bringing), bringing), name=f"bring {wanted}"
        )
        return bringing

    async def cancel(self, wanted: str) -> bool:
        """Stop bringing and delete what has come; whether there was anything to stop."""
        bringing = self._bringings.get(wanted)
        task = self._tasks.get(wanted)
        if bringing is None or bringing.is_over or task is None:
            return False
        task.cancel()
        await asyncio.wait([task])
        shelved = self._shelf.find(wanted)
        if shelved is not None and not shelved.paths:
            await self._take(shelved)
        if self._fetcher is not None:
            await asyncio.to_thread(self._fetcher.forget, bringing.sha256s)
        return True

    async def remove(self, name: str) -> tuple[Path, ...]:
        """Forget a model, and delete the files that meshd brought; which. Raises Refused."""
        model = self.removable(name)
        if any(offer.name == name for offer in self.host.offers()):
            await self.host.remove(name)
        self.kitchen.splitting.forget(name)
        self.lending.remove(name)
        del self._local[name]
        shelved = model.shelved
        assert shelved is not None, "removable says so"
        await self._take(shelved)
        self._changes.notify()
        if not shelved.is_ours:
            return ()
        await asyncio.to_thread(_delete, model.paths)
        return model.paths

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

    # Bringing

    async def _run(self, work: Coroutine[Any, Any, None], bringing: Bringing) -> None:
        try:
            await work
        except (FetchFailed, Refused, BadModelFile, MeshError, OSError) as error:
            logger.warning("model %s is not brought: %s", bringing.wanted, error)
            bringing.enter(Stage.FAILED, str(error))
        except asyncio.CancelledError:
            bringing.enter(Stage.CANCELLED, "somebody called it off")
            raise
        finally:
            self._tasks.pop(bringing.wanted, None)
            self._changes.notify()

    async def _bring(self, bringing: Bringing) -> None:
        if self._shelf.find(bringing.wanted) is None:
            await self._put(Shelved("", (), bringing.wanted, bringing.policy.value))
        try:
            async with self._turns:
                await self._until_brought(bringing)
        except (FetchFailed, Refused, BadModelFile):
            # A person was told; what came stays on the disk for the next try.
            shelved = self._shelf.find(bringing.wanted)
            if shelved is not None and not shelved.paths:
                await self._take(shelved)
            raise

    async def _until_brought(self, bringing: Bringing) -> None:
        pauses = iter(RETRY_S)
        if bringing.is_patient:
            bringing.enter(Stage.WAITING, "first hears who in the mesh has it")
            await asyncio.sleep(HEARING_S)
        while True:
            try:
                await self._try(bringing)
                return
            except FetchFailed as error:
                if not (error.is_weather and bringing.is_patient):
                    raise
                is_on_hub = parse_hub_spec(bringing.wanted) is not None
                pause_s = next(pauses, RETRY_S[-1]) if is_on_hub else LOOK_AGAIN_S
                bringing.enter(Stage.WAITING, f"{error}; tried again in {pause_s:.0f} s")
                logger.debug("model %s: %s", bringing.wanted, bringing.reason)
            await asyncio.sleep(pause_s)

    async def _try(self, bringing: Bringing) -> None:
        assert self._finder is not None and self._fetcher is not None, "attach comes first"
        found = await self._finder.find(bringing.wanted, lambda words: bringing.enter(Stage.FINDING, words))
        bringing.name = found.name
        bringing.sha256s = tuple(file.sha256 for file in found.wish.files)
        if self._is_taken(found.name):
            await self._settle_for(bringing, found)
            return
        bringing.enter(Stage.BRINGING)
        paths = found.cached or await self._fetcher.fetch(found.wish, bringing.meter)
        await self._note_digests(found, paths)
        shelved = Shelved(found.name, tuple(map(str, paths)), bringing.wanted, bringing.policy.value, not found.cached)
        await self._serve(shelved, loads=bringing.loads)
        bringing.enter(Stage.DONE, f"{found.name} is here" + (", from the cache" if found.cached else ""))
        logger.info("model %s is here: %s", found.name, paths[0])

    async def _settle_for(self, bringing: Bringing, found: Found) -> None:
        """What has that name here is the very same files. Raises Refused when it is not."""
        identity = identity_of([file.sha256 for file in found.wish.files])
        if not any((offer.name, offer.digest) == (found.name, identity) for offer in self.host.offers()):
            raise Refused(f"this node has another model called {found.name!r}; remove that one first")
        wish = self._shelf.find(bringing.wanted)
        if wish is not None and not wish.paths:
            await self._take(wish)
        if bringing.loads:
            self._engine(found.name).load()
        bringing.enter(Stage.DONE, f"{found.name} was here already")

    async def _note_digests(self, found: Found, paths: tuple[Path, ...]) -> None:
        """They were hashed on their way."""
        if not found.cached:
            await asyncio.to_thread(self.digests.note, paths, [file.sha256 for file in found.wish.files])

    def _forget_old_bringings(self) -> None:
        over = [wanted for wanted, one in self._bringings.items() if one.is_over]
        for wanted in over[: max(0, len(over) - MAX_REMEMBERED)]:
            del self._bringings[wanted]

    # Serving

    async def _serve(self, shelved: Shelved, *, loads: bool) -> None:
        """Offer a model that has just come here, and keep it on the shelf. Raises Refused, BadModelFile."""
        if self._is_taken(shelved.name):
            raise Refused(f"this node has another model called {shelved.name!r}; rename the file, or remove that one")
        spec = FileSpec(shelved.name, Path(shelved.paths[0]), shelved.policy == "lazy")
        served = await asyncio.to_thread(self.kitchen.make, spec)
        await self._put(shelved)
        if self._is_taken(shelved.name):
            raise Refused(f"another model called {shelved.name!r} came at the same time")
        self.host.add(served)
        self._remember(shelved.name, tuple(map(Path, shelved.paths)), shelved)
        self._to_hash.append(shelved.name)
        self._changes.notify()
        if loads:
            self._engine(shelved.name).load()

    def _is_taken(self, name: str) -> bool:
        local = self._local.get(name)
        return (local is not None and not local.problem) or any(offer.name == name for offer in self.host.offers())

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
        for shelved in self._shelf.models:
            if not shelved.paths or shelved.name in self._local:
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

    def _here(self, wanted: str) -> LocalModel | None:
        return next(
            (one for one in self.local if one.shelved and one.shelved.wanted == wanted and not one.problem), None
        )

    def _remember(self, name: str, paths: tuple[Path, ...], shelved: Shelved | None, problem: str = "") -> None:
        size_bytes = 0 if problem else sum(map(_size, paths))
        self._local[name] = LocalModel(name, paths, size_bytes, shelved is None, shelved, problem)

    def _engine(self, name: str) -> ResidentEngine:
        engine = self.resident(name)
        if engine is None or name not in self._local:
            problem = self._local[name].problem if name in self._local else ""
            why = problem or (
                "it is not made of files" if self._is_taken(name) else f"it is not here; {self._listed()}"
            )
            raise Refused(f"model {name!r} cannot be loaded or unloaded: {why}")
        return engine

    def _listed(self) -> str:
        names = ", ".join(self._local)
        return f"there are: {names}" if names else "there are none"

    async def _put(self, model: Shelved) -> None:
        self._shelf = self._shelf.put(model)
        await asyncio.to_thread(write_shelf, self._shelf_file, self._shelf)

    async def _take(self, model: Shelved) -> None:
        self._shelf = self._shelf.without(model)
        await asyncio.to_thread(write_shelf, self._shelf_file, self._shelf)


def _size(path: Path) -> int:
    return path.stat().st_size


def _delete(paths: tuple[Path, ...]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # something else lies there
        paths[0].parent.rmdir()
