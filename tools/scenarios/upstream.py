"""A server that a host runs already: its models join the pool, go when it stops and are back when it is."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import AbstractAsyncContextManager

from llm.engines.interface import Child
from meshd.launcher import ProcessLauncher
from tools.scenarios.stage import PATIENCE_S, Stage, ask, entry, until_served

MODEL = "old/echo"


async def run(stage: Stage) -> None:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]

    def server() -> AbstractAsyncContextManager[Child]:
        argv = [sys.executable, "-m", "llm.engines.echo", "--port", str(port)]
        return ProcessLauncher(os.environ).start(argv, {}, stage.folder / "server.log")

    stage.step(f"a node is told of an OpenAI-compatible server of its host on port {port}, which is not running yet")
    async with stage.agents.start("host", ("--upstream", f"old/=http://127.0.0.1:{port}/v1")) as host:
        joining = ("--client", "--join", await host.token("client"))
        async with stage.agents.start("laptop", joining) as laptop:
            stage.step("the server is started (the echo engine, a fake that repeats what it is told)")
            async with server():
                shown = await until_served(laptop, MODEL, "solo")
                stage.show(f"{MODEL}: {shown['reason']}")
                answer = await ask(laptop, MODEL, "one two three", tokens=3)
                stage.show(answer.text)
                stage.check("a client one hop away is answered", answer.status == 200, answer)

            stage.step("the server is stopped")
            status = await laptop.until(lambda status: entry(status, MODEL)["state"] == "failed", PATIENCE_S)
            stage.show(entry(status, MODEL)["reason"])
            refused = await ask(laptop, MODEL, "one two three")
            stage.show(refused.error)
            stage.check("requests are told so", refused.status == 503, refused)

            stage.step("the server is started again")
            async with server():
                await until_served(laptop, MODEL, "solo")
                again = await ask(laptop, MODEL, "one two three", tokens=3)
                stage.check("and answers as before", again.text == answer.text, again)
