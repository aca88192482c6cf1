"""The process that drafts for models of other nodes: a small model and its context, asked by its agent over loopback.

HTTP says that it lives and where blocks go; they come over a connection for each conversation (`llm.draft.pipe`), and
all that wait are drafted for in one batch (`draft_thread`).
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from llm.draft.message import MOST_TOKENS, Proposal, Question, read_question, write_proposal
from llm.draft.pipe import RecordPipe, accept, check_key
from llm.draft.service import DOOR_PATH
from llm.sessions.child import BACKLOG, LAST_WORDS_S, Server
from llm.sessions.context import Context
from llm.sessions.context_options import add_context_options, settings_of
from llm.sessions.draft_model import DraftModel
from llm.sessions.draft_thread import DraftThread
from llm.sessions.drafter import Ask
from llm.sessions.names import KEY_VARIABLE
from transport.errors import MeshError, ProtocolError

logger = logging.getLogger("meshd.sessions")

Handle = Callable[[Request], Awaitable[Response]]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m llm.sessions.drafter_child", description=__doc__)
    add_context_options(parser, sequences=16)
    parser.add_argument("--name", required=True)
    return parser.parse_args()


def load(options: argparse.Namespace) -> DraftModel:
    """Blocks while the model is read."""
    return DraftModel(Context(settings_of(options)), options.name, time.monotonic)


@dataclass(frozen=True, slots=True)
class Drafts:
    """The process's doors. key: of its HTTP door.  block_key: shown first by who brings blocks."""

    thread: DraftThread
    name: str
    cells: int
    key: str
    block_key: str
    port: int

    def application(self) -> Starlette:
        routes = (("/health", self.health), ("/v1/models", self.models), (DOOR_PATH, self.door))
        return Starlette(routes=[Route(path, self._fenced(handle)) for path, handle in routes])

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": self.name, "meta": {"n_ctx": self.cells}}]})

    async def door(self, request: Request) -> Response:
        return JSONResponse({"port": self.port, "key": self.block_key, "token_s": self.thread.token_s})

    async def serve(self, pipe: RecordPipe) -> None:
        """One conversation, until its agent closes it."""
        name, tokens = secrets.token_hex(8), list[int]()
        try:
            await check_key(pipe, self.block_key)
            while (record := await pipe.receive()) is not None:
                arrived = time.monotonic()
                question = read_question(record, None)
                follow(tokens, question)
                if question.count:
                    ids = await self.thread.draft(Ask(name, tuple(tokens), question.count))
                    tokens += ids
                    await pipe.send(write_proposal(Proposal(ids, time.monotonic() - arrived)))
        except MeshError as error:
            logger.info("a conversation ended: %s", error)
        finally:
            self.thread.forget(name)
            pipe.close()

    def _fenced(self, handle: Handle) -> Handle:
        async def fenced(request: Request) -> Response:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self.key}".encode()):
                return JSONResponse({"error": {"message": "this port is meshd's own"}}, 401)
            return await handle(request)

        return fenced


def follow(tokens: list[int], question: Question) -> None:
    """Have `tokens`, told and drafted, be what the question says of them. Raises ProtocolError."""
    if question.keep > len(tokens):
        raise ProtocolError(f"draft/1: expected to keep at most {len(tokens)} tokens, got {question.keep}")
    if question.keep + len(question.new) > MOST_TOKENS:
        raise ProtocolError(f"draft/1: a conversation has at most {MOST_TOKENS} tokens")
    del tokens[question.keep :]
    tokens += question.new
    if question.count and not tokens:
        raise ProtocolError("draft/1: there is nothing to go on from")


async def serve(options: argparse.Namespace, key: str) -> None:
    """Answer until SIGTERM, or until the thread dies, which ends the process."""

    def on_death() -> None:
        server.should_exit = True

    thread = DraftThread(lambda: load(options), on_death)
    await thread.start()
    with (
        closing(socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)) as blocks,
        closing(socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)) as listener,
    ):
        port = blocks.getsockname()[1]
        drafts = Drafts(thread, options.name, options.cells, key, secrets.token_hex(16), port)
        server = Server(
            uvicorn.Config(
                drafts.application(),
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=LAST_WORDS_S,
                lifespan="off",
            )
        )
        print(f"drafter: listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_death)
        async with asyncio.TaskGroup() as group:
            bringing = group.create_task(_take_blocks(blocks, drafts))
            await server.serve(sockets=[listener])
            bringing.cancel()
    thread.end()


async def _take_blocks(listener: socket.socket, drafts: Drafts) -> None:
    async with asyncio.TaskGroup() as group:
        async for pipe in accept(listener):
            group.create_task(drafts.serve(pipe), name="conversation")


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    options = arguments()
    asyncio.run(serve(options, os.environ[KEY_VARIABLE]))


if __name__ == "__main__":
    main()
