"""--split shares a model that one node could serve alone: layers by memory, the same text, and a draft model helps."""

from __future__ import annotations

from tools.scenarios.stage import TOY, TOY_DRAFT, Stage, ask, until_served

QUESTION = "What is meshd?"
MODEL = TOY.stem
SERVES = ("--model", str(TOY), "--threads", "1")


async def run(stage: Stage) -> None:
    stage.step("one node alone answers, for comparison")
    async with stage.agents.start("alone", SERVES) as alone:
        await until_served(alone, MODEL, "solo")
        expected = await ask(alone, MODEL, QUESTION)
        stage.show(expected.text)

    stage.step("node 'large' offers 2 GB and serves it with --split and a draft model; nobody is there to share with")
    forced = (*SERVES, "--split", "--draft", str(TOY_DRAFT), "--vram-limit", "2")
    async with stage.agents.start("large", forced) as large:
        shown = await until_served(large, MODEL, "solo")
        stage.check("it serves alone meanwhile, and says so", "--split" in shown["reason"], shown["reason"])

        stage.step("node 'small', with 1 GB and no model, joins")
        joining = ("--vram-limit", "1", "--join", await large.token("member"))
        async with stage.agents.start("small", joining) as small:
            shown = await until_served(small, MODEL, "split")
            shares = [(one["name"], one["share"]) for one in shown["workers"]]
            stage.show(f"{shown['reason']}; host {shown['host']}, term {shown['term']}")
            stage.check(
                "the layers are shared 2 : 1, as memory is", shares == [("large", 0.67), ("small", 0.33)], shares
            )

            stage.step("asked at 'small'")
            answer = await ask(small, MODEL, QUESTION)
            stage.show(answer.text)
            stage.check("the answer came from a split", answer.headers.get("x-meshd-mode") == "split", answer.headers)
            stage.check("greedy text is what one node alone wrote", answer.text == expected.text, answer.text)
            timings = answer.body["timings"]
            accepted, proposed = timings.get("draft_n_accepted", 0), timings.get("draft_n", 0)
            stage.check(
                f"the draft proposed {proposed} tokens, {accepted} were taken", proposed >= accepted > 0, timings
            )

        stage.step("'small' has left")
        await until_served(large, MODEL, "solo")
        again = await ask(large, MODEL, QUESTION)
        stage.check("'large' serves alone again, with the same text", again.text == expected.text, again.text)
