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
from llm.engines.commands import CommandFailed, run_command
from llm.engines.http_proxy import HttpProxy, HttpReply
from llm.engines.interface import EngineFailed, EngineState, EngineStatus, Reply, Request
from llm.engines.model_list import BadModelList, read_model_list
from llm.engines.rename import rename_model
from llm.errors import BadRequest

logger = logging.getLogger("meshd.llm")

LOOK_INTERVAL_S = 5.0
LOOK_AGAIN_S = 1.0
"""Between looks at a server that does not answer."""
LOOK_TIMEOUT_S = 5.0
START_TIMEOUT_S = 300.0
COMMAND_TIMEOUT_S = 60.0
MISSES_BEFORE_FAILED = 2
DEFAULT_SLOTS = 8

PASSED_PATHS = ("/v1/", "/tokenize", "/detokenize", "/apply-template", "/rerank", "/reranking", "/embedding", "/infill")
"""What a model's users need. Servers have more: Ollama's `/api/delete` is not for everybody in the mesh."""


@dataclass(frozen=True, slots=True)
class UpstreamOptions:
    """One server of this host.

    base: "http://127.0.0.1:PORT".  prefix: stands before its models' names in the mesh.  slots: requests it answers
    at a time, as far as placement is concerned.  models: the only ones of it to offer; empty for all.  start, stop:
    commands that begin and end it, empty where it is not ours to begin and end.
    """

    name: str
    base: str
    prefix: str = ""
    api_key: str = field(default="", repr=False)
    slots: int = DEFAULT_SLOTS
    models: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()


class PathNotPassed(BadRequest):
    """The path is not one that an upstream's users need."""

    status = 404
    code = "not_found"


class Upstream:
    """One server: whether it answers, and with which models."""

    def __init__(self, options: UpstreamOptions) -> None:
        self.options = options
        self.state = EngineState.LOADING
        self.reason = "not asked yet"
        self._models = dict.fromkeys(options.models, 0)
        self._misses = 0
        self._proxy: HttpProxy | None = None
        self._changes = Changes()
        self._look_now = Changes()
        self._starting = asyncio.Lock()

    @property
    def models(self) -> Mapping[str, int]:
        """Context in tokens of each model, 0 where the server does not say. Kept while it does not answer."""
        return MappingProxyType(self._models)

    async def changed(self) -> None:
        """Wait until the state, its reason or the models next change."""
        await self._changes.wait()

    async def run(self) -> None:
        """Watch the server until cancelled. A stop and a start of it are seen within seconds."""
        async with HttpProxy(self.options.base, self.options.api_key, self._label) as proxy:
            self._proxy = proxy
            try:
                while True:
                    await self._look(proxy)
                    await self._pause()
            finally:
                self._proxy = None
                self._enter(EngineState.STOPPED, "stopped with the agent")

    def doubt(self) -> None:
        """Look at once: a request has just failed."""
        self._look_now.notify()

    async def send(self, request: Request, on_close: Callable[[], None]) -> HttpReply:
        """Pass on a request that names the model as the server does. Raises EngineFailed."""
        if self.state is EngineState.UNLOADED or self._starting.locked():
            await self.start()
        if self._proxy is None or not self._is_ready():
            raise self._failed(f"it is {self.state.value}: {self.reason}", retryable=True)
        try:
            response = await self._proxy.send(request)
        except EngineFailed:
            self.doubt()
            raise
        return HttpReply(response, self._explain, on_close)

    async def start(self) -> None:
        """Begin the server and wait until it answers. Raises EngineFailed; does nothing when it runs."""
        async with self._starting:
            if self._is_ready():
                return
            self._enter(EngineState.LOADING, f"started by `{self.options.start[0]}`")
            try:
                await run_command(self.options.start, COMMAND_TIMEOUT_S)
                async with asyncio.timeout(START_TIMEOUT_S):
                    while not self._is_ready():
                        await self.changed()
            except (CommandFailed, TimeoutError) as error:
                self._enter(EngineState.UNLOADED, f"it did not start: {error}")
                raise self._failed(f"it did not start: {error}", retryable=True) from error

    async def stop(self) -> None:
        """End the server to free its memory; it starts again at the next request. Raises EngineFailed."""
        if not (self.options.stop and self.options.start):
            raise self._failed("its start and stop commands are not known, so it is not ours to end", retryable=False)
        async with self._starting:
            try:
                await run_command(self.options.stop, COMMAND_TIMEOUT_S)
            except CommandFailed as error:
                raise self._failed(f"it did not stop: {error}", retryable=False) from error
            self._enter(EngineState.UNLOADED, "ended to free its memory; starts at the next request")
            self.doubt()

    def _is_ready(self) -> bool:
        return self.state is EngineState.READY

    @property
    def _label(self) -> str:
        return f"upstream {self.options.name}"

    async def _look(self, proxy: HttpProxy) -> None:
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
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_INTERVAL_S if self._misses == 0 else LOOK_AGAIN_S):
                await self._look_now.wait()

    def _enter(self, state: EngineState, reason: str) -> None:
        if state is not self.state:
            logger.info("%s is %s: %s", self._label, state.value, reason)
        self.state, self.reason = state, reason
        self._changes.notify()

    async def _explain(self, detail: str) -> EngineFailed:
        self.doubt()
        return self._failed(detail, retryable=False)

    def _failed(self, detail: str, *, retryable: bool) -> EngineFailed:
        return EngineFailed(f"{self._label} failed: {detail}", retryable=retryable)


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
        try:
            return await self._upstream.send(rename_model(request, self._model), self._done)
        except BaseException:
            self._done()
            raise

    def _done(self) -> None:
        self._in_flight -= 1


def _check_path(path: str) -> None:
    plain = path.partition("?")[0]
    # A server may resolve dots and escapes after we looked.
    is_plain = ".." not in plain and "%" not in plain and "//" not in plain
    if not (is_plain and plain.startswith(PASSED_PATHS)):
        raise PathNotPassed(
            f"{plain[:100]!r} is not passed on to an upstream server; what is: {' '.join(PASSED_PATHS)}"
        )
