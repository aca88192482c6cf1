"""One node alone: it hosts its model, answers on its API, and starts nothing for a split."""

from __future__ import annotations

import socket

import psutil

from tools.scenarios.stage import PATIENCE_S, TOY, Stage, api_of, ask, until_served

MODEL = TOY.stem
USUAL_PORT = 9337


async def run(stage: Stage) -> None:
    port = USUAL_PORT if _is_free(USUAL_PORT) else 0
    if not port:
        stage.show(f"port {USUAL_PORT} is taken on this machine, so the API gets another one here")
    stage.step(f"one node serves {MODEL}")
    arguments = ("--model", str(TOY), "--threads", "1", "--port", str(port))
    async with stage.agents.start("alone", arguments) as alone:
        shown = await until_served(alone, MODEL, "solo")
        status = await alone.until(lambda status: bool(status["host"]), PATIENCE_S)
        stage.check("status says that it is a host", status["host"] is True, status["host"])
        stage.check("and which model it hosts", shown["host"] == "alone", shown)
        stage.check("no node works for it", shown["workers"] == [], shown["workers"])
        api = await api_of(alone)
        stage.check(f"the API is {api}", not port or api.endswith(f":{USUAL_PORT}"), api)

        stage.step("it is asked")
        answer = await ask(alone, MODEL, "What is meshd?")
        stage.show(answer.text)
        stage.check("it answers itself, solo", answer.headers.get("x-meshd-mode") == "solo", answer.headers)

        stage.step("its processes")
        names = sorted(child.name() for child in psutil.Process(alone.child.pid).children(recursive=True))
        stage.show(", ".join(names))
        stage.check("there is a llama-server", "llama-server" in names, names)
        stage.check("and no worker of a split", not any("rpc" in name for name in names), names)


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
