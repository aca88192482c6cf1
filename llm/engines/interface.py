"""What every engine offers, and what an engine needs from the agent.

An engine answers HTTP-shaped requests for one model. `llama_server` and `echo` implement it, later
`upstream` and `sessions`; one suite (tests/llm/engine_contract.py) holds them to the words here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal, Protocol

from llm.errors import RequestFailed
from llm.offer import Mode, OfferedPart

Headers = tuple[tuple[str, str], ...]


def untold(progress: str) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP-shaped request for a model, whole body in memory.

    path: as received, query included ("/v1/chat/completions").  headers: lower-case names, hop-by-hop
    and authorization headers already removed.  deadline_s: budget left when it was made.  caller: who asks, as far as
    fairness goes: callers get turns alike.  node: first hex digits of the only one that can answer.  on_progress: told
    now and then what a long wait is for.
    """

    request_id: str
    model: str
    method: str
    path: str
    headers: Headers
    body: bytes
    deadline_s: float
    caller: str = ""
    node: str = ""
    on_progress: Callable[[str], None] = field(default=untold, compare=False, repr=False)


class Reply(Protocol):
    """An answer whose head has arrived and whose body is still coming. Close it, read or not."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers: ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises `EngineFailed` when it breaks off. One consumer."""

    async def close(self) -> None:
        """Stop the answer and free what it held; the engine's slot is free within a second. Idempotent."""


class EngineState(Enum):
    """Where an engine is in its life.

    UNLOADED loads at its first request. WAITING lacks memory or another node, and starts when it comes. FAILED
    engines are restarted by themselves with back-off.
    """

    UNLOADED = "unloaded"
    WAITING = "waiting"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Drafting:
    """What becomes of an engine's drafts. drafter: in words.  state: whether they pay, "tried" while it is not known.

    is_drafting: now.  speedup: with drafts against without, 0 before both were measured.  drafted, accepted: tokens
    since it was loaded.  reason: the state in words.
    """

    drafter: str
    state: Literal["tried", "on", "off"]
    is_drafting: bool
    speedup: float
    drafted: int
    accepted: int
    reason: str


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """Snapshot of an engine.

    reason: why it is in that state, in words for a person.  context_tokens: what one request may use, 0 before
    it is known.  tokens_per_s: generated lately by one slot, 0 before it was measured.  parts, missing_bytes:
    `llm.offer.Offer`; a split model has parts also while it loads.  drafting: None where nothing drafts.
    """

    state: EngineState
    reason: str
    in_flight: int
    context_tokens: int
    slots: int
    tokens_per_s: float
    mode: Mode = "solo"
    parts: tuple[OfferedPart, ...] = ()
    missing_bytes: int = 0
    drafting: Drafting | None = None


class EngineFailed(RequestFailed):
    """The engine could not answer or stopped half-way. `retryable`: nothing of the answer was sent yet."""

    status = 502
    code = "engine_failed"
    retry_after_s = 2

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


class Engine(Protocol):
    """Serves one model. `run` owns whatever the engine needs and returns only when cancelled."""

    @property
    def kind(self) -> str: ...

    @property
    def status(self) -> EngineStatus: ...

    async def run(self) -> None:
        """Start, watch and restart the engine until cancelled; leave nothing running behind."""

    async def changed(self) -> None:
        """Wait until `status.state` next differs from what it was at the call."""

    async def answer(self, request: Request) -> Reply:
        """Send `request` and return when the head of the answer is there. Raises EngineFailed."""


class Child(Protocol):
    """A running child process. Its output goes to the log file it was started with."""

    @property
    def pid(self) -> int: ...

    async def wait(self) -> int:
        """The exit status; negative for a signal."""


class Launcher(Protocol):
    """Starts children that die with the agent, also on its `kill -9`. Implemented in meshd."""

    def start(self, argv: Sequence[str], env: Mapping[str, str], log: Path) -> AbstractAsyncContextManager[Child]:
        """Run `argv` with `env` added to a minimal environment, output appended to `log`.

        Leaving the context ends the child: SIGTERM, then SIGKILL after 5 s.
        """
