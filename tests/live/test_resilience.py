"""Single accidents, those of `just scenario resilience`, and many at random, those of `bench.chaos`, shortened."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from bench.chaos.request import Judgement, Reply, judge
from bench.chaos.run import Plan, run
from meshd.local_agents import LocalAgents
from tools.scenarios import resilience
from tools.scenarios.stage import Stage

SEED = 3
TEXT = "Once more"


@pytest.mark.timeout(300)
async def test_single_accidents_are_survived(agents: LocalAgents, tmp_path: Path) -> None:
    """The scenario's three meshes at once: they mostly wait."""
    stage = Stage(agents, tmp_path, print)
    async with asyncio.TaskGroup() as group:
        group.create_task(resilience.a_split_loses_what_it_stands_on(stage))
        group.create_task(resilience.a_host_dies_and_another_stands_still(stage))
        group.create_task(resilience.a_load_takes_long(stage))


@pytest.mark.timeout(400)
async def test_every_request_ends_right_or_in_words_while_things_die(agents: LocalAgents) -> None:
    done = await run(Plan(SEED, requests=120, rate=8.0), agents, print)
    kinds = done.kinds()
    print(SEED, kinds, done.harms)
    assert (done.open, done.wrong()) == (0, [])
    assert len(done.outcomes) == 120
    assert done.harms.total() > 5 and kinds["right"] > 60


def event(content: str) -> str:
    return "data: " + json.dumps({"choices": [{"delta": {"content": content}}]}) + "\n\n"


ERROR = {"error": {"type": "server_error", "code": "host_failed", "message": "it went", "request_id": "req-1"}}
ERROR_EVENT = f"data: {json.dumps(ERROR)}\n\n"
DONE = "data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (event("Once") + event(" more") + DONE, "right"),
        (event("Once") + DONE, "wrong"),
        (event("Once") + event(" more"), "wrong"),
        (event("Twice") + event(" more") + DONE, "wrong"),
        (event("Once") + ERROR_EVENT, "error"),
        (event("Twice") + ERROR_EVENT, "wrong"),
        (ERROR_EVENT + event("Once"), "wrong"),
        (event("Once") + "data: {", "wrong"),
        ("data: " + json.dumps({"error": {**ERROR["error"], "message": ""}}) + "\n\n", "wrong"),
    ],
)
def test_a_stream_is_right_or_ends_in_words_after_a_right_beginning(body: str, kind: str) -> None:
    assert judge(Reply(200, body.encode()), TEXT, is_stream=True).kind == kind


def test_an_answer_in_one_piece_is_right_an_error_in_words_cut_or_wrong() -> None:
    def judged(status: int, body: object, broken: str = "") -> Judgement:
        return judge(Reply(status, json.dumps(body).encode(), broken), TEXT, is_stream=False)

    right = {"choices": [{"message": {"content": TEXT}}]}
    assert judged(200, right).kind == "right"
    assert judged(200, {"choices": [{"message": {"content": "else"}}]}).kind == "wrong"
    assert judged(502, ERROR) == Judgement("error", "502 host_failed", "it went")
    assert judged(502, "Bad gateway").kind == "wrong"
    assert judged(200, right, broken="ServerDisconnectedError").kind == "cut"
