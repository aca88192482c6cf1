"""Waits, for whoever asked for it, until a model that is being brought to this node is here.

How it is brought is `meshd.bringer`'s; how a client is told of progress, `meshd.progress`'s.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from llm.engines.interface import Request
from llm.engines.resident import LOAD_DEADLINE_S
from llm.errors import RequestFailed
from meshd.bringing import Bringing, Stage

LOOK_INTERVAL_S = 0.5


class StillComing(RequestFailed):
    """The model was not here yet when the time was over that this request would wait."""

    status = 503
    code = "model_loading"
    retry_after_s = 10

    def __init__(self, model: str, progress: str) -> None:
        super().__init__(f"model {model!r} is on its way to this node ({progress}); try again shortly")


class NotBrought(RequestFailed):
    """The model was on its way to this node, and does not come."""

    status = 503
    code = "model_not_brought"

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"model {model!r} was on its way to this node and does not come: {reason}")


async def until_here(coming: Bringing, request: Request, *, is_told: bool) -> Request:
    """`request`, with what time is left of it, once its model is here. Raises StillComing, NotBrought.

    is_told: it hears of the progress meanwhile, so it waits as long as it has time; who hears nothing is sent away
    after the time that loads are waited for.
    """
    now = asyncio.get_running_loop().time
    began = now()
    patience_s = request.deadline_s if is_told else min(request.deadline_s, LOAD_DEADLINE_S)
    while not coming.is_over:
        if now() - began >= patience_s:
            raise StillComing(request.model, coming.words)
        request.on_progress(f"{request.model}: {coming.stage.value}: {coming.words}")
        await asyncio.sleep(min(LOOK_INTERVAL_S, began + patience_s - now()))
    if coming.stage is not Stage.DONE:
        raise NotBrought(request.model, coming.words)
    return replace(request, deadline_s=request.deadline_s - (now() - began))
