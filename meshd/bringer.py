"""Brings models to this node: one task for each, which finds, fetches and hands over, and tries again where that helps.

Which files a wish means is `meshd.model_finder`'s, their transfer `llm.models.fetch`'s, and what becomes of them
`meshd.pantry`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from llm.gguf import BadModelFile
from llm.models.fetch import Fetcher, FetchFailed
from llm.models.selection import identity_of, parse_hub_spec
from llm.models.shelf import Shelved
from llm.residency import Policy
from meshd.bringing import Bringing, Stage
from meshd.model_finder import Found, ModelFinder
from meshd.model_specs import BroughtSpec, ModelSpec
from meshd.pantry import Pantry, Refused
from transport.errors import MeshError

logger = logging.getLogger("meshd.models")

AT_ONCE = 2
"""Models that are brought at the same time; the others wait."""
RETRY_S = (5.0, 10.0, 30.0, 60.0)
LOOK_AGAIN_S = 2.0
"""How often a model that nobody offers is looked for: that asks nobody."""
HEARING_S = 3.0
"""After a start the mesh is not known yet, and who in it has a file is asked before the internet."""
LINKING_S = 6.0
"""A model may be heard of a moment before its node is linked: for so long nobody is told that it cannot be had."""
DRAFT_S = 60.0
"""How long a model that is here waits for the draft that was asked for with it."""
LOOK_FOR_DRAFT_S = 0.2
MAX_REMEMBERED = 16
"""Bringings that are over, kept so that whoever asked can read how they ended."""


@dataclass(slots=True)
class Bringer:
    """Everything that is on its way here."""

    pantry: Pantry
    finder: ModelFinder
    fetcher: Fetcher
    _bringings: dict[str, Bringing] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _group: asyncio.TaskGroup | None = None
    _draft: Bringing | None = None

    @property
    def bringings(self) -> tuple[Bringing, ...]:
        """What is on its way, and what lately was."""
        return tuple(self._bringings.values())

    def find(self, named: str) -> Bringing | None:
        """What is on its way under that name or wish."""
        return next((one for one in self.bringings if named in (one.wanted, one.name) and not one.is_over), None)

    async def run(self, specs: Iterable[ModelSpec]) -> None:
        """Bring what the command line and the shelf want, then what is asked for, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for spec in specs:
                    if isinstance(spec, BroughtSpec) and not self.pantry.has_brought(spec.name):
                        policy = Policy.LAZY if spec.is_lazy else Policy.PINNED
                        begun = self.begin(spec.name, policy, loads=not spec.is_lazy, is_patient=True)
                        self._draft = begun if spec.is_draft else self._draft
                for wish in self.pantry.wishes:
                    if wish.wanted not in self._bringings:
                        self.begin(wish.wanted, Policy(wish.policy), loads=False, is_patient=True)
                await asyncio.Event().wait()
            finally:
                self._group = None

    def begin(self, wanted: str, policy: Policy, *, loads: bool, is_patient: bool = False) -> Bringing:
        """Begin to bring a model here, unless it is on its way. Raises Refused."""
        if self._group is None:
            raise Refused("this node hosts nothing, so it needs no models: ask for them over its API")
        bringing = self._bringings.get(wanted)
        if bringing is not None and not bringing.is_over:
            return bringing
        self._forget_old()
        bringing = self._bringings[wanted] = Bringing(wanted, policy, loads, is_patient)
        self._tasks[wanted] = self._group.create_task(self._run(bringing), name=f"bring {wanted}")
        return bringing

    async def cancel(self, bringing: Bringing) -> None:
        """Stop it, and delete what has come."""
        task = self._tasks.get(bringing.wanted)
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        await self.pantry.drop_wish(bringing.wanted)
        await asyncio.to_thread(self.fetcher.forget, bringing.sha256s)

    def _forget_old(self) -> None:
        over = [wanted for wanted, one in self._bringings.items() if one.is_over]
        for wanted in over[: max(0, len(over) - MAX_REMEMBERED)]:
            del self._bringings[wanted]

    async def _run(self, bringing: Bringing) -> None:
        """Bring it; how that ended is noted in it."""
        try:
            await self.pantry.note_wish(bringing.wanted, bringing.policy)
            async with self._turns:
                await self._until_brought(bringing)
        except (FetchFailed, Refused, BadModelFile, MeshError, OSError) as error:
            logger.warning("model %s is not brought: %s", bringing.wanted, error)
            # A person reads why; what came stays on the disk for the next try.
            await self.pantry.drop_wish(bringing.wanted)
            bringing.enter(Stage.FAILED, str(error))
        except asyncio.CancelledError:
            bringing.enter(Stage.CANCELLED, "somebody called it off")
            raise
        finally:
            self._tasks.pop(bringing.wanted, None)

    async def _until_brought(self, bringing: Bringing) -> None:
        if bringing.is_patient:
            bringing.enter(Stage.WAITING, "first hears who in the mesh has it")
            await asyncio.sleep(HEARING_S)
        is_on_hub = parse_hub_spec(bringing.wanted) is not None
        pauses = iter(RETRY_S)
        begun = asyncio.get_running_loop().time()
        while True:
            try:
                await self._try(bringing)
                return
            except FetchFailed as error:
                is_early = asyncio.get_running_loop().time() - begun < LINKING_S
                if not (error.is_weather and (bringing.is_patient or (is_early and not is_on_hub))):
                    raise
                pause_s = next(pauses, RETRY_S[-1]) if is_on_hub else LOOK_AGAIN_S
                bringing.enter(Stage.WAITING, f"{error}; tried again in {pause_s:.0f} s")
                logger.debug("model %s: %s", bringing.wanted, bringing.reason)
            await asyncio.sleep(pause_s)

    async def _try(self, bringing: Bringing) -> None:
        """Once. Raises FetchFailed, Refused, BadModelFile."""
        found = await self.finder.find(bringing.wanted, lambda words: bringing.enter(Stage.FINDING, words))
        digests = tuple(file.sha256 for file in found.wish.files)
        bringing.name, bringing.sha256s = found.name, tuple(file.sha256 for file in found.wish.all_files)
        if self.pantry.has(found.name, identity_of(digests)):
            await self.pantry.drop_wish(bringing.wanted)
            if bringing.loads:
                await self.pantry.load(found.name, None, now=True)
            bringing.enter(Stage.DONE, f"{found.name} was here already")
            return
        await self._fetch(bringing, found, digests)

    async def _until_draft_is_here(self, bringing: Bringing) -> None:
        """An engine is made with its draft, or without; so it comes first, if it comes soon."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAFT_S):
                while self._draft is not None and self._draft is not bringing and not self._draft.is_over:
                    bringing.enter(Stage.BRINGING, "waits for the draft")
                    await asyncio.sleep(LOOK_FOR_DRAFT_S)

    async def _fetch(self, bringing: Bringing, found: Found, digests: tuple[str, ...]) -> None:
        bringing.enter(Stage.BRINGING)
        paths = found.cached or await self.fetcher.fetch(found.wish, bringing.meter)
        await self._until_draft_is_here(bringing)
        is_ours = not found.cached
        shelved = Shelved(found.name, tuple(map(str, paths)), bringing.wanted, bringing.policy.value, is_ours)
        await self.pantry.take_in(shelved, digests, loads=bringing.loads)
        bringing.enter(Stage.DONE, f"{found.name} is here" + ("" if is_ours else ", from the cache"))
        logger.info("model %s is here: %s", found.name, paths[0])
