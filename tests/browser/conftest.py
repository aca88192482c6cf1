"""The console in a real browser: Debian's Chromium, driven by Playwright. Skipped visibly where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from meshd.local_agents import LocalAgents, local_agents

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")

PATIENCE_MS = 90_000
expect.set_options(timeout=PATIENCE_MS)  # a form's worker may have to start first


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.live)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="no chromium here: apt-get install chromium"))


@pytest.fixture
def agents(tmp_path: Path) -> LocalAgents:
    """Starts agents whose folders vanish with the test."""
    return local_agents(tmp_path)


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A browser of its own, headless."""
    async with async_playwright() as driver:
        opened = await driver.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=list(FLAGS), timeout=PATIENCE_MS
        )
        try:
            yield opened
        finally:
            await opened.close()


@asynccontextmanager
async def page_of(opened: Browser, url: str, **options: object) -> AsyncIterator[Page]:
    """The page at `url`. Leaving it fails for anything the page complained of, or asked of another host."""
    context = await opened.new_context(**options)  # type: ignore[arg-type]
    page = await context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    foreign: list[str] = []
    page.on("request", lambda request: None if request.url.startswith((url, "data:")) else foreign.append(request.url))
    try:
        await page.goto(url)
        yield page
        assert complaints == []
        assert foreign == []
    finally:
        await context.close()


def pictures() -> Path | None:
    """Where screenshots for the docs go, when `MESHD_SCREENSHOTS` names a folder."""
    named = os.environ.get("MESHD_SCREENSHOTS")
    return Path(named) if named else None
