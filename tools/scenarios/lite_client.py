"""A lite client: an API without an engine, carried to the host; it adds no memory, and the host stays solo."""

from __future__ import annotations

import psutil

from tools.scenarios.stage import PATIENCE_S, TOY, Stage, ask, now, until_served

MODEL = TOY.stem


async def run(stage: Stage) -> None:
    stage.step("node 'host' offers 2 GB and serves the model")
    async with stage.agents.start("host", ("--model", str(TOY), "--threads", "1", "--vram-limit", "2")) as host:
        await until_served(host, MODEL, "solo")
        before = (await now(host))["vram_total_gb"]
        stage.show(f"the mesh has {before} GB")

        stage.step("a laptop joins as a client")
        async with stage.agents.start("laptop", ("--client", "--join", await host.token("client"))) as laptop:
            await until_served(laptop, MODEL, "solo")
            seen = await host.until(lambda status: any(one["role"] == "client" for one in status["peers"]), PATIENCE_S)
            for agent, status in ((host, seen), (laptop, await now(laptop))):
                stage.check(
                    f"'{agent.name}' counts the memory of hosts only",
                    abs(status["vram_total_gb"] - before) < 0.01,
                    status["vram_total_gb"],
                )
            children = psutil.Process(laptop.child.pid).children(recursive=True)
            stage.check("the laptop runs no engine", not children, children)

            stage.step("the laptop is asked")
            answer = await ask(laptop, MODEL, "What is meshd?")
            stage.show(answer.text)
            stage.check("'host' answers through it", answer.headers.get("x-meshd-node") == "host", answer.headers)
            stage.check("and stays solo", answer.headers.get("x-meshd-mode") == "solo", answer.headers)
