"""Three models on one node asked from another: each request is answered by its own, a hundred times of a hundred."""

from __future__ import annotations

import asyncio
import random

from tools.scenarios.stage import Stage, ask, until_served

MODELS = ("red", "green", "blue")
SEED = 5


async def run(stage: Stage) -> None:
    files = [stage.model(name, seed=number + 1) for number, name in enumerate(MODELS)]
    serves = [word for file in files for word in ("--model", str(file))]
    stage.step(f"one node serves {', '.join(MODELS)}")
    async with stage.agents.start("host", (*serves, "--threads", "1")) as host:
        expected = {}
        for name in MODELS:
            await until_served(host, name, "solo")
            expected[name] = (await ask(host, name, "Once", tokens=8)).text
            stage.show(f"{name} says {expected[name]!r}")
        stage.check("they say different things", len(set(expected.values())) == len(MODELS), expected)

        stage.step("another node joins and is asked a hundred times, in any order")
        async with stage.agents.start("other", ("--join", await host.token("member"))) as other:
            for name in MODELS:
                await until_served(other, name, "solo")
            asked = random.Random(SEED).choices(MODELS, k=100)
            answers = await asyncio.gather(*(ask(other, name, "Once", tokens=8) for name in asked))
            right = sum(answer.text == expected[name] for name, answer in zip(asked, answers, strict=True))
            stage.check(f"{right} of 100 were answered by the right model", right == 100, right)
            unknown = await ask(other, "purple", "Once")
            stage.show(unknown.error)
            stage.check("a model that nobody has is not answered by another", unknown.status == 404, unknown)
