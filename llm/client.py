"""Gets a request answered somewhere: here, or over a chat/1 stream by the best host that the view knows.

Until the first byte of the answer's body a failure only means another try: engines send the head of a stream
long before its first token (llama-server at once, measured), so the head is held back until a chunk is there.
After it, what fails is told by `chunks`. Ranking is `placement`'s; error bodies are `openai`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Protocol

from gossip.belief import Believe, believe_everybody
from gossip.view import View
from llm.affinity import Affinity, prefixes
from llm.chat import MAX_BODY_BYTES
from llm.deadline import Deadline
from llm.engines.interface import Headers, Reply, Request
from llm.errors import BodyTooLarge, DeadlineExceeded, HostSilent, NoHost, RequestFailed, UnknownModel
from llm.events import WholeEvents
from llm.host import Host
from llm.offer import MODELS_FACT, MeshModel, Mode, catalogue
from llm.placement import Choice, Experience, rank
from llm.remote import ask
from llm.sessions.names import SessionGone
from llm.sightings import Sightings
from llm.silences import Silences
from llm.tries import SAME_NODE_PAUSE_S, Tries
from transport.interface import NodeId, Transport

logger = logging.getLogger("meshd.llm")

MEETING_S = 5.0
"""A node that has just started has not heard of others' models yet: for so long it calls no model unknown."""


class Views(Protocol):
    """The mesh as this node sees it; the gossip runner has one."""

    @property
    def view(self) -> View: ...

    async def changed(self, after_version: int) -> View:
        """The first view later than `after_version`, at once when there is one already."""


class Router:
    """Answers any request for any model of the mesh.

    hint: told of a node that did not answer although its facts say it would, for gossip to probe it at once.
    believe: how far what a node says of its speed goes.
    """

    def __init__(
        self,
        host: Host,
        transport: Transport,
        views: Views,
        hint: Callable[[NodeId, str], None],
        believe: Believe = believe_everybody,
    ) -> None:
        self._host = host
        self._transport = transport
        self._views = views
        self._hint = hint
        self._believe = believe
        self._busy: Counter[NodeId] = Counter()
        self._silences = Silences()
        self._sightings = Sightings()
        self._affinity = Affinity()
        self._began = asyncio.get_running_loop().time()

    def catalogue(self) -> tuple[MeshModel, ...]:
        """Every model that can be asked for."""
        return catalogue(self._views.view, self._host.offers())

    async def answer(self, request: Request) -> Answer:
        """The answer to `request` from the best host for `request.model` that gives one.

        Returns when the first piece of the body is there. Raises RequestFailed: UnknownModel at once, but where this
        node has just started or the model was there a moment ago; any other when `request.deadline_s` is over or no
        host answered within RECOVERY_S after the first failure.
        """
        if len(request.body) > MAX_BODY_BYTES:
            raise BodyTooLarge(MAX_BODY_BYTES)
        deadline = asyncio.get_running_loop().time() + request.deadline_s
        try:
            async with asyncio.timeout_at(deadline):
                return await self._answer(request, deadline)
        except TimeoutError as error:
            raise _deadline_exceeded(request) from error

    async def _answer(self, request: Request, deadline: float) -> Answer:
        tries, now = Tries(), asyncio.get_running_loop().time
        beginnings = prefixes(request.model, request.body)
        while True:
            try:
                choice, *others = self._rank(request, tries, self._affinity.holder(beginnings))
            except NoHost as error:
                await self._pause(tries.wait_s(error, now()))
                continue
            except UnknownModel:
                if (left_s := self._meeting_left_s()) <= 0:
                    raise
                await self._pause(left_s)
                continue
            if choice.node in tries.failed:
                await self._pause(SAME_NODE_PAUSE_S)
            try:
                patience_s = tries.accept_timeout_s(now(), has_others=bool(others))
                answer = await self._try(choice, request, deadline, patience_s)
                self._affinity.note(beginnings, choice.node)
                return answer
            except RequestFailed as error:
                logger.info("request %s at node %s: %s", request.request_id, choice.node_name, error)
                if request.node:
                    raise  # a session may have changed already
                tries.note(choice.node, error, now())

    def _rank(self, request: Request, tries: Tries, holder: NodeId | None) -> list[Choice]:
        model, view, now = request.model, self._views.view, asyncio.get_running_loop().time()
        failed = tries.failed | self._silences.among(view, now)
        try:
            known = Experience(self._busy, failed, tries.left_out, holder, self._believe)
            choices = rank(model, view, self._host.offers(), known)
        except UnknownModel as error:
            if self._sightings.is_recent(model, now):
                raise NoHost(
                    f"no node offers model {model!r} any more, since a moment ago; try again shortly"
                ) from error
            raise
        self._sightings.note(model, now)
        return _only(request.node, choices, view) if request.node else choices

    def _meeting_left_s(self) -> float:
        """How long this node may yet hear of others' models; 0 once it has heard of any."""
        has_heard = any(MODELS_FACT in entry.facts for entry in self._views.view.nodes[1:])
        return 0.0 if has_heard else self._began + MEETING_S - asyncio.get_running_loop().time()

    async def _try(self, choice: Choice, request: Request, deadline: float, accept_timeout_s: float) -> Answer:
        """One node's answer, with the first piece of its body. Raises RequestFailed."""
        self._busy[choice.node] += 1
        reply: Reply | None = None
        try:
            reply = await self._ask(choice, request, deadline, accept_timeout_s)
            chunks = reply.chunks()
            first = await _first_chunk(chunks)
        except BaseException as error:
            self._done(choice.node, str(error) if isinstance(error, HostSilent) else "")
            if reply is not None:
                await reply.close()
            raise
        self._silences.forget(choice.node)
        return Answer(reply, choice, first, chunks, deadline, partial(self._done, choice.node))

    async def _ask(self, choice: Choice, request: Request, deadline: float, accept_timeout_s: float) -> Reply:
        left_s = deadline - asyncio.get_running_loop().time()
        routed = replace(request, model=choice.model, deadline_s=left_s)
        if choice.is_local:
            return await self._host.answer(routed)
        return await ask(self._transport, choice, routed, accept_timeout_s)

    def _done(self, node: NodeId, silence: str = "") -> None:
        """A request there is over. silence: what happened, when it ended because the node said nothing more."""
        self._busy[node] -= 1
        entry = self._views.view.get(node) if silence else None
        if entry is not None:
            self._silences.note(node, entry.boot, asyncio.get_running_loop().time())
            self._hint(node, silence)

    async def _pause(self, at_most_s: float) -> None:
        """Wait until hosts may look different, but no longer than `at_most_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_s), asyncio.TaskGroup() as group:
                waits: list[asyncio.Task[object]] = [
                    group.create_task(self._views.changed(self._views.view.version), name="wait for a view"),
                    group.create_task(self._host.changed(), name="wait for an offer"),
                ]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()


class Answer:
    """A `Reply` that knows which node gives it. A stream of events breaks off only between two events."""

    def __init__(
        self,
        reply: Reply,
        choice: Choice,
        first: bytes | None,
        chunks: AsyncIterator[bytes],
        deadline: float,
        on_close: Callable[[str], None],
    ) -> None:
        self._reply = reply
        self._choice = choice
        self._first = first
        self._step = partial(anext, chunks, None)
        self._deadline = Deadline(deadline)
        self._on_close = on_close
        self._silence = ""
        self._is_closed = False

    @property
    def status(self) -> int:
        return self._reply.status

    @property
    def headers(self) -> Headers:
        return self._reply.headers

    @property
    def node(self) -> NodeId:
        return self._choice.node

    @property
    def node_name(self) -> str:
        return self._choice.node_name

    @property
    def mode(self) -> Mode:
        """How the host serves the model, for x-meshd-mode."""
        return self._choice.offer.mode

    @property
    def is_local(self) -> bool:
        """Whether this node's own engine answers."""
        return self._choice.is_local

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises RequestFailed when it breaks off or the deadline passes."""
        events = WholeEvents() if _is_event_stream(self.headers) else None
        chunk = self._first
        while chunk is not None:
            whole = events.feed(chunk) if events else chunk
            if whole:
                yield whole
            chunk = await self._next()
        if events and (rest := events.rest()):
            yield rest

    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._deadline.close()
            self._on_close(self._silence)
            await self._reply.close()

    async def _next(self) -> bytes | None:
        try:
            return await self._deadline.wait(self._step)
        except TimeoutError as error:
            raise DeadlineExceeded("the request's time was over before its answer was complete") from error
        except HostSilent as error:
            self._silence = str(error)
            raise


def _only(node: str, choices: list[Choice], view: View) -> list[Choice]:
    """The choice that is that node. Raises SessionGone where it has left the mesh, NoHost where it is not ready."""
    if found := [choice for choice in choices if choice.node.hex().startswith(node)]:
        return found
    if any(entry.node.hex().startswith(node) for entry in view.nodes):
        raise NoHost("the node that has this session does not answer for its model now; try again shortly")
    raise SessionGone("the node that had this session has left the mesh; begin another with POST /v1/sessions")


async def _first_chunk(chunks: AsyncIterator[bytes]) -> bytes | None:
    """The first piece of a body, None for an empty one. Nothing was sent yet, so what fails may be retried."""
    try:
        return await anext(chunks, None)
    except RequestFailed as error:
        error.retryable = not isinstance(error, DeadlineExceeded) and error.status != DeadlineExceeded.status
        raise


def _is_event_stream(headers: Headers) -> bool:
    return any(name == "content-type" and value.startswith("text/event-stream") for name, value in headers)


def _deadline_exceeded(request: Request) -> DeadlineExceeded:
    return DeadlineExceeded(f"no answer began within {request.deadline_s:g} s; ask again with a longer deadline")
