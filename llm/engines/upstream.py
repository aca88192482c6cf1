"""Serves the models of an OpenAI-compatible server that this host runs already: vLLM, Ollama, a speech server.

`Upstream` watches the server, `UpstreamEngine` passes one model's requests on. Which of its models the node offers
follows from `Upstream.models` and is `llm.upstream_models`'s; what is changed in a request is `rename`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType

from llm.changes import Changes
from llm.engines.booking import Booking, SharedMemory
from llm.engines.commands import CommandFailed, run_command
from llm.engines.http_proxy import HttpProxy, HttpReply
from llm.engines.interface import EngineFailed, EngineState, EngineStatus, Reply, Request
from llm.engines.model_list import BadModelList, read_model_list
from llm.engines.rename import rename_model
from llm.engines.resident import PROGRESS_INTERVAL_S, Busy, StillLoading
from llm.errors import BadRequest, RequestFailed
from llm.residency import UNKNOWN_MAKEUP, Policy

logger = logging.getLogger("meshd.llm")

LOOK_INTERVAL_S = 5.0
LOOK_AGAIN_S = 1.0
"""Between looks at a server that does not answer."""
LOOK_STARTING_S = 0.25
"""Somebody waits for it."""
LOOK_TIMEOUT_S = 5.0
START_TIMEOUT_S = 300.0
COMMAND_TIMEOUT_S = 60.0
MISSES_BEFORE_FAILED = 2
MISSES_BEFORE_BROKEN = 6
"""Looks at a server in a row without an answer, half a minute where it is silent, after which nobody waits for what it
was asked before."""
DEFAULT_SLOTS = 8
SILENT_S = 20.0
"""How long a server may go on answering after its stop command."""
LOOK_SILENT_S = 0.1
KEEPS_S = 60.0
"""A server that did not stop when it was told to is left alone for so long."""

PASSED_PATHS = ("/v1/", "/tokenize", "/detokenize", "/apply-template", "/rerank", "/reranking", "/embedding", "/infill")
"""What a model's users need. Servers have more: Ollama's `/api/delete` is not for everybody in the mesh."""


@dataclass(frozen=True, slots=True)
class UpstreamOptions:
    """One server of this host.

    base: "http://127.0.0.1:PORT".  prefix: stands before its models' names in the mesh.  slots: requests it answers
    at a time, as far as placement is concerned.  models: the only ones of it to offer; empty for all.  start, stop:
    commands that begin and end it, empty where it is not ours to begin and end.  memory_bytes: what it takes while it
    runs, 0 where nobody said.
    """

    name: str
    base: str
    prefix: str = ""
    api_key: str = field(default="", repr=False)
    slots: int = DEFAULT_SLOTS
    models: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    memory_bytes: int = 0


class PathNotPassed(BadRequest):
    """The path is not one that an upstream's users need."""

    status = 404
    code = "not_found"


class Upstream:
    """One server: whether it answers, and with which models; and its place in this host's memory, where that is said.

    It is a `llm.engines.resident.Tenant`: idle, with both commands known, it makes room for others.
    """

    def __init__(self, options: UpstreamOptions, memory: SharedMemory | None = None) -> None:
        self.options = options
        self.name = f"upstream {options.name}"
        self.need_bytes = options.memory_bytes
        self.makeup = UNKNOWN_MAKEUP
        self.in_flight = 0
        self.last_used = 0.0
        self.state = EngineState.LOADING
        self.reason = "not asked yet"
        self._models = dict.fromkeys(options.models, 0)
        self._misses = 0
        self._proxy: HttpProxy | None = None
        self._changes = Changes()
        self._look_now = Changes()
        self._start_now = Changes()
        self._starting = asyncio.Lock()
        self._keeps_until = 0.0
        self._is_ending = False
        self._booking: Booking | None = None
        if memory is not None and self.need_bytes:
            self._booking = Booking(memory)
            memory.residence.admit(self)

    @property
    def models(self) -> Mapping[str, int]:
        """Context in tokens of each model, 0 where the server does not say. Kept while it does not answer."""
        return MappingProxyType(self._models)

    async def changed(self) -> None:
        """Wait until the state, its reason or the models next change."""
        await self._changes.wait()

    @property
    def offered(self) -> dict[str, str]:
        """Its own name of each model, by that in the mesh."""
        return {self.options.prefix + model: model for model in self._models}

    @property
    def can_be_ended(self) -> bool:
        """Whether it may be ended, because it can be begun again."""
        return bool(self.options.stop and self.options.start)

    @property
    def held_bytes(self) -> int:
        return self._booking.held_bytes if self._booking is not None else 0

    @property
    def is_wanted(self) -> bool:
        """Whether its memory is still to be found; somebody else may have begun it meanwhile."""
        return not self._is_ready()

    @property
    def policy(self) -> Policy:
        is_stubborn = asyncio.get_running_loop().time() < self._keeps_until
        is_free_to_go = self.can_be_ended and not self._starting.locked() and not is_stubborn
        return Policy.LAZY if is_free_to_go else Policy.PINNED

    async def run(self) -> None:
        """Watch the server until cancelled. A stop and a start of it are seen within seconds."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._start_when_told(), name=f"start {self.name}")
            try:
                while True:
                    await self._watch_until_broken()
            finally:
                self._enter(EngineState.STOPPED, "stopped with the agent")

    async def _watch_until_broken(self) -> None:
        """Returns, and breaks off what is being answered, once the server has been silent for long."""
        async with HttpProxy(self.options.base, self.options.api_key, self.name) as proxy:
            self._proxy = proxy
            try:
                while self._misses < MISSES_BEFORE_BROKEN or not self.in_flight or self._starting.locked():
                    await self._look(proxy)
                    await self._pause()
            finally:
                self._proxy = None
        logger.warning("%s has been silent for long: %d requests are given up", self.name, self.in_flight)
        self._misses = MISSES_BEFORE_FAILED

    async def _start_when_told(self) -> None:
        while True:
            await self._start_now.wait()
            with suppress(RequestFailed):  # the state has the reason
                await self.start()

    def doubt(self) -> None:
        """Look at once: a request has just failed."""
        self._look_now.notify()

    async def send(self, request: Request, on_close: Callable[[], None]) -> HttpReply:
        """Pass on a request that names the model as the server does. Raises EngineFailed."""
        if self.state is EngineState.UNLOADED or self._starting.locked():
            await self._started(request)
        if self._proxy is None or not self._is_ready():
            raise self._failed(f"it is {self.state.value}: {self.reason}", retryable=True)
        try:
            response = await self._proxy.send(request)
        except EngineFailed:
            self.doubt()
            raise
        return HttpReply(response, self._explain, on_close)

    def load(self) -> None:
        """Begin it, unless it runs or is not ours to begin; `state` and `reason` say how that goes."""
        if self.options.start and not self._is_ready():
            self._start_now.notify()

    async def start(self) -> None:
        """Begin the server and wait until it answers. Raises EngineFailed, StillLoading; does nothing when it runs."""
        async with self._starting:
            if self._is_ready():
                return
            if not self.options.start:
                raise self._failed("its start command is not known, so it is not ours to begin", retryable=True)
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    if self._booking is not None:
                        await self._booking.gain(self)
                    if self._is_ready():
                        return
                    self._enter(EngineState.LOADING, f"started by `{self.options.start[0]}`")
                    await run_command(self.options.start, COMMAND_TIMEOUT_S)
                    self.doubt()
                    while not self._is_ready():
                        await self.changed()
            except CommandFailed as error:
                self._enter(EngineState.UNLOADED, f"it did not start: {error}")
                raise self._failed(f"it did not start: {error}", retryable=True) from error
            except TimeoutError as error:
                reason = f"it did not answer within {START_TIMEOUT_S:.0f} s: {self.reason}"
                self._enter(EngineState.UNLOADED, reason)
                raise StillLoading(f"{self.name}: {reason}; try again shortly") from error
            finally:
                if self.state is EngineState.WAITING:
                    self._enter(EngineState.UNLOADED, "starts at the next request")

    async def unload(self, reason: str) -> None:
        """End the server to free its memory; it starts again at the next request. Raises Busy, EngineFailed."""
        if not self.can_be_ended:
            raise self._failed("its start and stop commands are not known, so it is not ours to end", retryable=False)
        if self.in_flight:
            raise Busy(f"{self.name} is answering {self.in_flight} requests and cannot be ended now")
        async with self._starting:
            if self.state is EngineState.UNLOADED:
                return
            self._is_ending = True
            try:
                await (self._booking.freed(self._end) if self._booking is not None else self._end())
            finally:
                self._is_ending = False
        self._enter(EngineState.UNLOADED, f"ended: {reason}; starts at the next request")

    async def _end(self) -> None:
        """Run the stop command and wait until the server is silent. Raises EngineFailed."""
        try:
            await run_command(self.options.stop, COMMAND_TIMEOUT_S)
            async with asyncio.timeout(SILENT_S):
                while await self._answers():  # noqa: ASYNC110 - it is another process
                    await asyncio.sleep(LOOK_SILENT_S)
        except (CommandFailed, TimeoutError) as error:
            self._keeps_until = asyncio.get_running_loop().time() + KEEPS_S
            reason = str(error) or f"it still answers {SILENT_S:.0f} s after its stop command"
            raise self._failed(f"it did not stop: {reason}", retryable=False) from error
        self._enter(EngineState.UNLOADED, "ended; its memory is waited for")

    async def _answers(self) -> bool:
        if self._proxy is None:
            return False
        try:
            await self._proxy.get("/v1/models", LOOK_TIMEOUT_S)
        except EngineFailed:
            return False
        return True

    def wait_for_memory(self, reason: str) -> None:
        """Say why it does not start yet."""
        self._enter(EngineState.WAITING, reason)

    def begin_request(self) -> None:
        """One more is being answered."""
        self.in_flight += 1

    def end_request(self) -> None:
        """One less is."""
        self.in_flight -= 1
        self.last_used = asyncio.get_running_loop().time()
        if self._booking is not None:
            self._booking.end_of_request()

    async def _started(self, request: Request) -> None:
        """Wait until it runs, telling who asks. Raises EngineFailed, StillLoading."""
        failure: RequestFailed | None = None
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(self._tell(request), name=f"tell of {self.name}")
            try:
                await self.start()
            except RequestFailed as error:
                failure = error
            finally:
                telling.cancel()
        if failure is not None:
            raise failure

    async def _tell(self, request: Request) -> None:
        while True:
            request.on_progress(f"{self.name}: {self.state.value}: {self.reason}")
            await asyncio.sleep(PROGRESS_INTERVAL_S)

    def _is_ready(self) -> bool:
        return self.state is EngineState.READY

    async def _look(self, proxy: HttpProxy) -> None:
        if self._is_ending:
            return
        try:
            status, body = await proxy.get("/v1/models", LOOK_TIMEOUT_S)
            if status != 200:
                raise BadModelList(f"/v1/models gave status {status} instead of 200")
            models = read_model_list(body)
        except (EngineFailed, BadModelList) as error:
            self._missed(str(error))
            return
        self._misses = 0
        wanted = self.options.models
        self._models = {name: tokens for name, tokens in models.items() if not wanted or name in wanted}
        self._enter(EngineState.READY, f"{self.options.base} answers")

    def _missed(self, reason: str) -> None:
        """One miss may be a server that is too busy to say hello; two are a server that is down."""
        self._misses += 1
        if self._starting.locked() or self._misses < MISSES_BEFORE_FAILED or self.state is EngineState.UNLOADED:
            return
        if self.options.start:
            self._enter(EngineState.UNLOADED, f"{reason}; starts at the next request")
        else:
            self._enter(EngineState.FAILED, reason)

    async def _pause(self) -> None:
        usual_s = LOOK_AGAIN_S if self._misses else LOOK_INTERVAL_S
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_STARTING_S if self._starting.locked() else usual_s):
                await self._look_now.wait()

    def _enter(self, state: EngineState, reason: str) -> None:
        if state is not self.state:
            logger.info("%s is %s: %s", self.name, state.value, reason)
            self._book(state)
        self.state, self.reason = state, reason
        self._changes.notify()

    def _book(self, state: EngineState) -> None:
        """Keep the ledger in step with what it has become: what runs holds its memory, whoever began it."""
        if self._booking is None:
            return
        if state is EngineState.READY:
            self._booking.keep(self)
        elif state in (EngineState.UNLOADED, EngineState.FAILED, EngineState.STOPPED):
            self._booking.end()

    async def _explain(self, detail: str) -> EngineFailed:
        self.doubt()
        return self._failed(detail, retryable=False)

    def _failed(self, detail: str, *, retryable: bool) -> EngineFailed:
        return EngineFailed(f"{self.name} failed: {detail}", retryable=retryable)


class UpstreamEngine:
    """An `Engine` for one model of an upstream. model: the server's own name for it."""

    kind = "upstream"

    def __init__(self, upstream: Upstream, model: str) -> None:
        self._upstream = upstream
        self._model = model
        self._in_flight = 0

    @property
    def status(self) -> EngineStatus:
        upstream = self._upstream
        tokens = upstream.models.get(self._model, 0)
        return EngineStatus(upstream.state, upstream.reason, self._in_flight, tokens, upstream.options.slots, 0.0)

    async def run(self) -> None:
        """The server's life is not ours; its watch is `Upstream.run`."""
        await asyncio.Event().wait()

    async def changed(self) -> None:
        before = self._upstream.state
        while self._upstream.state is before:
            await self._upstream.changed()

    async def answer(self, request: Request) -> Reply:
        _check_path(request.path)
        self._in_flight += 1
        self._upstream.begin_request()
        try:
            return await self._upstream.send(rename_model(request, self._model), self._done)
        except BaseException:
            self._done()
            raise

    def _done(self) -> None:
        self._in_flight -= 1
        self._upstream.end_request()


def _check_path(path: str) -> None:
    plain = path.partition("?")[0]
    # A server may resolve dots and escapes after we looked.
    is_plain = ".." not in plain and "%" not in plain and "//" not in plain
    if not (is_plain and plain.startswith(PASSED_PATHS)):
        raise PathNotPassed(
            f"{plain[:100]!r} is not passed on to an upstream server; what is: {' '.join(PASSED_PATHS)}"
        )
