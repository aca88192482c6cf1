"""The console as a person sees it: a host, a worker and a client, in a real browser."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from typing import Any

import aiohttp
from playwright.async_api import Page, ViewportSize, expect

from meshd.local_agents import LocalAgent, LocalAgents
from tests.browser.conftest import browser, page_of, pictures
from tests.live.test_pairing import Asker
from tests.live.toy import HOUR, MODEL, SERVES_TOY, api_of, chat, sees_ready
from transport.pairing import code_text
from transport.quic import Joined

ROWS = "#mesh-table tbody tr"
PHONE: ViewportSize = {"width": 390, "height": 844}


async def console_of(agent: LocalAgent) -> str:
    return str((await agent.status())["doors"]["console"])


async def keep_picture(page: Page, name: str) -> None:
    if (folder := pictures()) is not None:
        await page.screenshot(path=folder / f"{name}.png", full_page=True)


async def test_a_client_sees_the_mesh_chats_and_is_told_of_a_death(agents: LocalAgents) -> None:
    async with agents.start("workstation", [*SERVES_TOY, "--split", "--draft", "ngram"]) as host:
        token = await host.token("member", 2)
        async with (
            agents.start("old-tower", ["--join", token]) as worker,
            agents.start("laptop", ["--client", "--join", await host.token("client")]) as client,
            browser() as opened,
        ):
            await client.until(lambda status: sees_ready(status) and is_split(status), 90)
            (part,) = (await worker.status())["memory"][0]["held"]
            assert {"weights", "kv"} <= part["uses"].keys(), "the leader says what its worker's part is for"
            async with page_of(opened, await console_of(client)) as page:
                await shows_roles(page)
                await shows_the_memory_of_others(page)
                await chats(page)
                await keep_picture(page, "console-client")
                await fits_a_phone(page)
                os.kill(worker.child.pid, signal.SIGKILL)
                await expect(page.locator(ROWS).filter(has_text="old-tower")).to_contain_text("dead", timeout=90_000)
            async with page_of(opened, await console_of(host), color_scheme="dark") as page:
                await shows_the_hosts_side(page)
                await lets_others_in(page)
                await lets_in_who_asks(page, Asker(host))
                if pictures() is not None:
                    await expect(page.locator("#models-table tbody tr")).to_contain_text("ready")
                    await expect(page.locator("#drafts-table tbody tr")).to_contain_text("workstation")
                await keep_picture(page, "console-host-dark")


def is_split(status: dict[str, Any]) -> bool:
    return any(model["mode"] == "split" and len(model["workers"]) == 2 for model in status["models"])


async def shows_roles(page: Page) -> None:
    for node, role in (("workstation", "HOST"), ("old-tower", "WORKER"), ("laptop", "CLIENT")):
        await expect(page.locator(ROWS).filter(has_text=node)).to_contain_text(role)
        await expect(page.locator(f"#mesh-picture [data-node={node}]")).to_contain_text(role)
    await expect(page.locator(ROWS).filter(has_text="workstation")).to_contain_text("QUIC · HTTP")
    total = await page.locator("#total").inner_text()
    assert "clients not counted" in total
    await expect(page.locator("#elections")).to_contain_text("workstation leads")


async def shows_the_memory_of_others(page: Page) -> None:
    """A client offers none, and sees what the model's parts take of those who hold them."""
    for node in ("workstation", "old-tower"):
        bar = page.locator(f"#memory [data-node={node}] .bar")
        await expect(bar).to_have_attribute("aria-label", re.compile(rf"^{node}, .*: models \d.*, KV \d.*, free \d"))
    await expect(page.locator("#memory [data-node]")).to_have_count(2)


async def chats(page: Page) -> None:
    await expect(page.locator("#chat-model")).to_have_value(MODEL)
    await page.fill("#chat-text", "What is meshd?")
    await page.press("#chat-text", "Enter")
    answer = page.locator("#chat-log li.assistant")
    await expect(answer.locator(".meta")).to_contain_text("workstation · split", timeout=60_000)
    await expect(page.locator("#chat-send")).to_be_enabled(timeout=60_000)
    assert len(await answer.inner_text()) > 30
    await expect(page.locator("#activity-table tbody tr").first).to_contain_text("200")


async def fits_a_phone(page: Page) -> None:
    """The picture is drawn anew for the width, its words beside one another; only tables scroll, in their boxes."""
    before = page.viewport_size
    await page.set_viewport_size(PHONE)
    width = await page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"], "nothing may need scrolling sideways but tables in their boxes"
    await expect(page.locator("#mesh-picture")).to_have_attribute("viewBox", re.compile(r"^0 0 3\d\d 420$"))
    overlaps = await page.evaluate(
        """() => {
            const boxes = [...document.querySelectorAll("#mesh-picture text")].filter((one) => one.textContent)
                .map((one) => [one.textContent, one.getBoundingClientRect()]);
            const meet = (a, b) => a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom;
            return boxes.flatMap(([word, box], at) =>
                boxes.slice(at + 1).filter(([, other]) => meet(box, other)).map(([other]) => `${word} / ${other}`));
        }"""
    )
    assert overlaps == []
    assert before is not None
    await page.set_viewport_size(before)


async def shows_the_hosts_side(page: Page) -> None:
    await expect(page.locator(ROWS).filter(has_text="laptop")).to_contain_text("API tunnel")
    await expect(page.locator("#memory .bar")).to_have_count(1)  # the worker is dead
    uses = re.compile("models .*, KV .*, work areas .*, free ")
    await expect(page.locator("#memory .bar")).to_have_attribute("aria-label", uses)  # once the model is there again
    await expect(page.locator("#memory .holders")).to_contain_text(f"{MODEL}")
    await expect(page.locator("#drafts-table tbody tr")).to_contain_text("n-grams (ngram-simple)")
    await page.fill("#plan-model", MODEL)
    await page.click("#plan-form button")
    await expect(page.locator("#plan")).to_contain_text("tokens/s")


async def lets_others_in(page: Page) -> None:
    await page.select_option("#token-role", "client")
    await page.click("#token-form button")
    await expect(page.locator("#join-line")).to_be_visible()
    line = await page.locator("#join-text").input_value()
    assert line.startswith("meshd --client --join meshd1:")
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.click("#join-copy")
    await expect(page.locator("#join-copy")).to_have_text("copied")
    assert await page.evaluate("navigator.clipboard.readText()") == line
    newest = page.locator("#tokens li").filter(has_text="client · valid")
    await newest.first.get_by_role("button", name="revoke").click()
    await expect(page.locator("#tokens li").filter(has_text="revoked")).not_to_have_count(0)


async def lets_in_who_asks(page: Page, asker: Asker) -> None:
    """A host without a token shows a code; the owner sees the same one, and lets it in."""
    async with asker.transport:
        await asker.ask()
        request = page.locator("#pairing li").filter(has_text=code_text(asker.code))
        await request.get_by_role("button", name="let in").click()
        await expect(page.locator("#pairing")).to_contain_text("nobody")
        assert isinstance(await asker.ask(), Joined)


async def test_the_page_is_usable_narrow_with_keys_alone_and_says_where_a_form_ran(agents: LocalAgents) -> None:
    models = ("--model", "echo:parrot", "--model", "echo:slow@2", *SERVES_TOY, "--draft", "ngram")
    async with agents.start("workstation", models) as host, browser() as opened:
        await host.until(lambda status: sees_ready(status, "parrot") and sees_ready(status, "slow"), 90)
        async with page_of(opened, await console_of(host), viewport=PHONE, color_scheme="dark") as page:
            await expect(page.locator("#connection")).to_have_text("live")
            await page.select_option("#chat-model", "parrot")
            await page.focus("#chat-text")
            await page.keyboard.type("**hello** `there` <b>you</b>")
            await page.keyboard.press("Enter")
            answer = page.locator("#chat-log li.assistant")
            await expect(answer.locator("strong")).to_have_text("hello")
            await expect(answer.locator("code")).to_have_text("there")
            await expect(answer.locator("b")).to_have_count(0)
            await page.focus("#bend-call")
            await page.keyboard.press("Tab")
            await page.keyboard.press("Tab")
            await page.keyboard.press("Enter")
            await expect(page.locator("#bend-result")).to_contain_text("(ok (1 2 3))")
            await expect(page.locator("#bend-result .why")).to_contain_text("ran on workstation")
            await expect(page.locator("#activity-table tbody tr").first).to_contain_text("cuda-radix-sort")
            await every_control_has_a_name(page)
            await links_say_what_travels(page)
            await proofs_are_told_in_words(page)
            await stops_an_answer(page)
            await keeps_the_focus_while_rows_change(page, host)
            await shows_drafts_and_sessions(page, host)
            await keep_picture(page, "console-narrow")


async def links_say_what_travels(page: Page) -> None:
    said = await page.evaluate(
        """async () => {
            const { labels } = await import("./mesh.js");
            const [member, client] = [{ name: "tower", role: "member" }, { name: "laptop", role: "client" }];
            return [labels(member, { carrier: "quic+bulk" }, new Set(["tower"]), false),
                    labels(client, { carrier: "quic" }, new Set(), false), labels(member, undefined, new Set(), false)];
        }"""
    )
    assert said == [["QUIC · HTTP", "RPC", "bulk"], ["QUIC · HTTP", "API tunnel"], []]


async def proofs_are_told_in_words(page: Page) -> None:
    said = await page.evaluate(
        """async () => {
            const { proved } = await import("./mesh.js");
            const none = { quarantine: "", attested_tflops: null, age_s: null, by: [], phase: "idle" };
            const good = { ...none, attested_tflops: 1.5, age_s: 120, by: ["tower"], phase: "validate" };
            return [none, good, { ...none, quarantine: "its transcript fails" }].map(proved);
        }"""
    )
    assert said == ["", "1.5 TFLOP/s or more, 2 min ago, by tower; validate", "in quarantine: its transcript fails"]


async def stops_an_answer(page: Page) -> None:
    """The picker chooses the model, and stop ends its answer at the node as well."""
    await page.select_option("#chat-model", "slow")
    await page.fill("#chat-text", "word " * 400)
    await page.press("#chat-text", "Enter")
    await expect(page.locator("#chat-log li.assistant").last.locator(".meta")).to_have_text("workstation · solo")
    await page.click("#chat-stop")
    await expect(page.locator("#chat-log li.assistant").last.locator(".meta")).to_have_text(
        "workstation · solo · stopped"
    )
    await expect(page.locator("#chat-send")).to_be_enabled()
    await expect(page.locator("#activity-table tbody tr").filter(has_text="slow")).to_contain_text("200")


async def keeps_the_focus_while_rows_change(page: Page, host: LocalAgent) -> None:
    row = page.locator("#models-table tbody tr").filter(has_text="slow")
    await row.get_by_role("button").focus()
    cells = row.locator("td")
    body = {"model": "slow", "messages": [{"role": "user", "content": "word " * 400}]}
    url = f"{await api_of(host, 'slow')}/v1/chat/completions"
    async with aiohttp.ClientSession(timeout=HOUR) as http, http.post(url, json=body | {"stream": True}):
        await expect(cells.nth(4)).to_have_text("1")
        await expect(row.get_by_role("button")).to_be_focused()
    await expect(cells.nth(4)).to_have_text("0")
    await expect(row.get_by_role("button")).to_be_focused()


async def shows_drafts_and_sessions(page: Page, host: LocalAgent) -> None:
    """A session of a model with drafts: in which tier it is, how large, and what becomes of drafts."""
    api = await api_of(host)
    async with aiohttp.ClientSession(timeout=HOUR) as http:
        async with http.post(f"{api}/v1/sessions", json={"model": MODEL}) as response:
            session = (await response.json())["id"]
        async with http.post(f"{api}/v1/chat/completions", json=chat("What is meshd?", session_id=session)) as response:
            assert response.status == 200
    row = page.locator("#sessions-table tbody tr").filter(has_text=MODEL)
    await expect(row).to_contain_text(re.compile(r"[\d.]+ [kM]B of [\d.]+ [kM]B"))
    drafts = page.locator("#drafts-table tbody tr").filter(has_text=MODEL)
    await expect(drafts).to_contain_text("n-grams (ngram-simple)")
    await expect(drafts).to_contain_text(re.compile("tried|on|off"))
    width = await page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"], "tables scroll in their boxes"


async def every_control_has_a_name(page: Page) -> None:
    """What a screen reader says of each control."""
    nameless = await page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea, svg[role], table")]
            .filter((one) => !(one.textContent.trim() && one.tagName === "BUTTON") && !one.labels?.length)
            .filter((one) => !one.getAttribute("aria-label") && !one.getAttribute("aria-labelledby"))
            .filter((one) => !one.querySelector("caption"))
            .map((one) => one.outerHTML.slice(0, 80))"""
    )
    assert nameless == []


async def test_a_node_with_keys_asks_for_one(agents: LocalAgents) -> None:
    async with agents.start("workstation", ["--model", "echo:parrot"]) as host:
        from tests.live.test_keys import meshd_key

        made = await asyncio.to_thread(meshd_key, host.directory, "create", "admin", "--admin")
        async with browser() as opened:
            context = await opened.new_context()
            page = await context.new_page()
            await page.goto(await console_of(host))
            await expect(page.locator("#key-form")).to_be_visible()
            await page.fill("#key", made["key"])
            await page.click("#key-form button")
            await expect(page.locator("#connection")).to_have_text("live")
            await expect(page.locator("#tokens")).to_contain_text("member")
            await context.close()
