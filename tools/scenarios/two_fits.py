"""Two nodes, a model that fits on one: the larger hosts, the other idles and says what changes that; both answer."""

from __future__ import annotations

import psutil

from tools.scenarios.stage import PATIENCE_S, TOY, Stage, ask, entry, until_served

MODEL = TOY.stem
SERVES = ("--model", str(TOY), "--threads", "1")


async def run(stage: Stage) -> None:
    stage.step("node 'small' offers 1 GB and has the model, to be loaded when it is needed")
    async with stage.agents.start("small", ("--lazy", str(TOY), "--threads", "1", "--vram-limit", "1")) as small:
        stage.step("node 'large' offers 2 GB and serves the model")
        joining = (*SERVES, "--vram-limit", "2", "--join", await small.token("member"))
        async with stage.agents.start("large", joining) as large:
            for agent in (small, large):
                shown = await until_served(agent, MODEL, "solo")
                stage.check(f"'{agent.name}' sees 'large' host it", shown["host"] == "large", shown)
            status = await small.until(lambda status: "--split" in entry(status, MODEL).get("reason", ""), PATIENCE_S)
            reason = entry(status, MODEL)["reason"]
            stage.show(reason)
            stage.check("'small' idles, and says what would force a split", "small idles" in reason, reason)
            children = [child.name() for child in psutil.Process(small.child.pid).children(recursive=True)]
            stage.check("'small' runs no engine and no worker", not children, children)

            stage.step("both are asked")
            answers = [await ask(agent, MODEL, "What is meshd?") for agent in (small, large)]
            for agent, answer in zip((small, large), answers, strict=True):
                node = answer.headers.get("x-meshd-node")
                stage.check(f"'{agent.name}' answers, by 'large'", (answer.status, node) == (200, "large"), answer)
            stage.check("with the same text", answers[0].text == answers[1].text, answers)
