"""The agent's half of sessions: their child process, and the engine that serves a model with sessions and without.

Requests below `/v1/sessions` go to the child, started at the first of them; all others to the model's other engine.
Both are watched, restarted and ended alike, and a child that ends parks its sessions first.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from llm.engines.drafts import Draft
from llm.engines.http_proxy import HttpProxy
from llm.engines.interface import Engine, EngineFailed, EngineStatus, Headers, Launcher, Reply, Request
from llm.engines.llama_arguments import QUIET_ABORT, LlamaServerOptions
from llm.engines.llama_server import ASK_TIMEOUT_S, LlamaServerEngine
from llm.memory.check import MemoryCheck
from llm.sessions.names import DESK_VARIABLE, KEY_VARIABLE, OWNER_HEADER, check_whole, is_of_sessions
from llm.sessions.stats import SessionStats, read_stats

MOST_SEQUENCES = 256


def untold(stats: SessionStats) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """server: what a llama-server would be started with; its context is that of all sessions together.

    identity: which file the model is.  folder: of parked sessions.  node: first 16 hex digits of this node's id, asked
    when the child starts.  vocabulary: SHA-256 of the model's tokens.  desk: where the child asks for drafters on other
    hosts, asked when it starts, too; empty for nowhere.  tell: given what its sessions take and did, every few seconds.
    """

    server: LlamaServerOptions
    identity: str
    folder: Path
    node: Callable[[], str]
    sequences: int = MOST_SEQUENCES
    vocabulary: str = ""
    desk: Callable[[], str] = str
    tell: Callable[[SessionStats], None] = untold


class SessionEngine(LlamaServerEngine):
    """An `Engine` on a child that keeps sessions."""

    kind = "sessions"
    program = "the session engine"

    def __init__(self, options: SessionOptions, launcher: Launcher) -> None:
        cells = options.server.context_tokens * options.server.slots
        log = options.server.log.with_suffix(".sessions.log")
        # Everybody's turns are the child's own affair.
        # Whether a draft pays, the child finds out by itself, without being started again.
        server = replace(options.server, log=log, context_tokens=cells, slots=options.sequences, draft=None)
        super().__init__(server, launcher)
        self._session_options = options
        self._stats = SessionStats()

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            self._session_options.tell(self._stats.at_rest())

    async def answer(self, request: Request) -> Reply:
        """Pass `request` on, with whose it is."""
        kept: Headers = tuple(pair for pair in request.headers if pair[0] != OWNER_HEADER)
        return await super().answer(replace(request, headers=(*kept, (OWNER_HEADER, owner_of(request.caller)))))

    def _command(self, key: str) -> tuple[list[str], dict[str, str]]:
        options, server = self._session_options, self._options
        argv = [sys.executable, "-m", "llm.sessions.child", "--model", str(server.model), "--name", server.name]
        argv += ["--node", options.node(), "--identity", options.identity, "--folder", str(options.folder)]
        argv += ["--cells", str(server.context_tokens), "--sequences", str(options.sequences)]
        argv += ["--kv-type", server.kv_type, "--gpu-layers", str(server.gpu_layers)]
        if server.threads is not None:
            argv += ["--threads", str(server.threads)]
        draft = options.server.draft
        if isinstance(draft, Draft) and draft.kind == "draft-simple":
            gpu_layers = 0 if draft.device == "none" else server.gpu_layers
            argv += ["--draft-model", str(draft.model), "--draft-name", draft_name(draft)]
            argv += ["--draft-gpu-layers", str(gpu_layers)]
        if options.vocabulary:
            argv += ["--vocabulary", options.vocabulary]
        return argv, {**QUIET_ABORT, KEY_VARIABLE: key, DESK_VARIABLE: options.desk()}

    async def _keep_house(self, proxy: HttpProxy) -> None:
        await super()._keep_house(proxy)
        with suppress(EngineFailed):
            status, raw = await proxy.get("/metrics", ASK_TIMEOUT_S)
            if status == 200:
                self._stats = read_stats(raw.decode(errors="replace"))
                self._session_options.tell(self._stats)

    def _end_child(self, pid: int) -> None:
        """Nothing here: the launcher ends it with SIGTERM, at which it parks everybody, and kills it 5 s later."""

    def _check_memory(self, argv: list[str], log_start: int) -> MemoryCheck | None:
        return None  # the child prints no sums


class WithSessions:
    """An `Engine` of two: one for plain requests, whose status and kind it shows, and one for sessions.

    fits: whether this node could hold all of the model for its sessions.
    """

    def __init__(self, plain: Engine, sessions: Engine, *, fits: bool = True) -> None:
        self._plain = plain
        self._sessions = sessions
        self._fits = fits

    @property
    def kind(self) -> str:
        return self._plain.kind

    @property
    def status(self) -> EngineStatus:
        return self._plain.status

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._plain.run(), name="plain engine")
            group.create_task(self._sessions.run(), name="session engine")

    async def changed(self) -> None:
        await self._plain.changed()

    async def answer(self, request: Request) -> Reply:
        """Raises NoSessions for one where the model is not whole on this node."""
        if not is_of_sessions(request.path):
            return await self._plain.answer(request)
        check_whole(request.model, is_split=self.status.mode == "split", fits=self._fits)
        return await self._sessions.answer(request)


def draft_name(draft: Draft) -> str:
    """What clients call a draft model in a session's policy: its file's name."""
    return draft.model.stem


def owner_of(caller: str) -> str:
    """Whose sessions a caller's are: the API key's, through whichever member it comes.

    A member says NODE/KEY of its callers; all callers of a client node are one, for it could make some up.
    """
    return caller.rpartition("/")[2]
