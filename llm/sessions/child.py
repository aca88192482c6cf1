"""The process that keeps one model's sessions: loads the model, then answers its agent on a loopback port.

Started by `engine`, which reads the port in what it prints. On SIGTERM it parks every session and ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import uvicorn

from llm.draft.desk import Invitation
from llm.sessions.chat_text import ChatText
from llm.sessions.context import Context, ContextSettings
from llm.sessions.context_options import add_context_options, settings_of
from llm.sessions.door import Door
from llm.sessions.draft_model import DraftModel
from llm.sessions.far_drafter import FarDrafter
from llm.sessions.far_post import FarPost, Parties
from llm.sessions.names import DESK_VARIABLE, KEY_VARIABLE, model_tag
from llm.sessions.sessions import Sessions
from llm.sessions.shelf import Shelf
from llm.sessions.thread import SessionThread
from llm.sessions.tiers import Limits

BACKLOG = 512
LAST_WORDS_S = 1

logger = logging.getLogger("meshd.sessions")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m llm.sessions.child", description=__doc__)
    add_context_options(parser, sequences=256)
    parser.add_argument("--name", required=True, help="what clients call the model")
    parser.add_argument("--node", required=True, help="first 16 hex digits of this node's id")
    parser.add_argument("--identity", required=True, help="which file the model is, for states")
    parser.add_argument("--folder", type=Path, required=True, help="of parked sessions")
    parser.add_argument("--draft-model", type=Path, help="a small model of the same vocabulary")
    parser.add_argument("--draft-name", default="", help="what clients call it")
    parser.add_argument("--draft-gpu-layers", type=int, default=0)
    parser.add_argument("--vocabulary", default="", help="SHA-256 of the model's tokens, to find drafters by")
    parser.add_argument("--parked-bytes", type=int, default=4 << 30)
    return parser.parse_args()


def load(options: argparse.Namespace, far: FarDrafter | None) -> Sessions:
    """Blocks while the model is read."""
    settings = settings_of(options)
    return Sessions(
        Context(settings),
        Shelf(options.folder),
        time.monotonic,
        Limits(active=options.sequences, parked_bytes=options.parked_bytes),
        node=options.node,
        model=model_tag(options.name),
        # What makes a state fit: the file, the type of its cells, and how attention is computed.
        kind=f"{options.identity} {settings.kv_type} flash={settings.flash_attention}",
        draft_model=load_draft(options, settings) if options.draft_model else None,
        far=far,
    )


def load_draft(options: argparse.Namespace, settings: ContextSettings) -> DraftModel | None:
    """The draft model; None where what it refused could not be taken back, so that it is of no use here."""
    gpu_layers = options.draft_gpu_layers
    context = Context(replace(settings, model=options.draft_model, kv_type="f16", gpu_layers=gpu_layers))
    if context.can_cut:
        return DraftModel(context, options.draft_name, time.monotonic)
    context.close()
    logger.warning("%s folds its tokens into one state and cannot draft for sessions", options.draft_name)
    return None


class Server(uvicorn.Server):
    """Uvicorn, as one of several things that a process does."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to us: uvicorn raises them again once it has served, and there is something to park yet."""
        yield


async def serve(options: argparse.Namespace, key: str, desk: str) -> None:
    """Answer until SIGTERM, or until the thread dies, which ends the process. desk: an `Invitation`, or empty."""
    deaths: list[BaseException] = []

    def on_death(error: BaseException | None) -> None:
        server.should_exit = True
        if error is not None:
            deaths.append(error)

    post = FarPost(Invitation.parse(desk), options.vocabulary) if desk and options.vocabulary else None
    far = FarDrafter(post, time.monotonic, options.name) if post is not None else None
    thread = SessionThread(lambda: load(options, far), on_death)
    await thread.start()
    template, words = await thread.call(lambda one: (one.context.chat_template, one.context.first_and_last))
    door = Door(thread, ChatText(template, *words), options.name, key)
    server = Server(
        uvicorn.Config(
            door.application(),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=LAST_WORDS_S,
            lifespan="off",
        )
    )
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        # Named as llama-server does, whose watcher in the agent is ours, too.
        print(f"sessions: listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: setattr(server, "should_exit", True))
        async with asyncio.TaskGroup() as group:
            works = [group.create_task(post.run(Parties(thread, far)))] if post is not None and far is not None else []
            await server.serve(sockets=[listener])
            for work in works:
                work.cancel()
    if deaths:
        raise deaths[0]
    await thread.stop()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    options = arguments()
    asyncio.run(serve(options, os.environ[KEY_VARIABLE], os.environ.get(DESK_VARIABLE, "")))


if __name__ == "__main__":
    main()
