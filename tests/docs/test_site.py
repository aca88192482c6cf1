"""The documentation builds into a site, without a warning, that asks nothing of any other host."""

from __future__ import annotations

import functools
import http.server
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from tests.browser.conftest import CHROMIUM, browser, page_of

ROOT = Path(__file__).parents[2]
NO_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")


def built(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of the documents in `folder`, as `just site` does."""
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--clean", "--strict"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=250, check=False)


def documents(folder: Path) -> Path:
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "zensical.toml", folder)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = documents(tmp_path_factory.mktemp("site"))
    done = built(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build/site"


class Resources(HTMLParser):
    """What a browser fetches for a page without being asked."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video", "audio"):
            self.found.append(given.get("src") or "")
        elif tag == "link" and given.get("rel") != "canonical":
            self.found.append(given.get("href") or "")


def resources_of(page: Path) -> list[str]:
    parser = Resources()
    parser.feed(page.read_text("utf-8"))
    return [one for one in parser.found if one]


def test_a_broken_link_would_stop_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "zensical.toml").write_text('[project]\nsite_name = "one page"\n')
    (tmp_path / "docs/index.md").write_text("# One page\n")
    whole = built(tmp_path)
    (tmp_path / "docs/index.md").write_text("# One page\n\n[away](nowhere.md)\n")

    assert (whole.returncode, built(tmp_path).returncode) == (0, 1)


def test_every_page_is_built_and_has_what_it_shows(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    missing = {page for page in pages if page.name != "README.html" and not (site / page).exists()}
    assert not missing

    for page in site.rglob("*.html"):
        here = [one for one in resources_of(page) if not one.startswith(("data:", "/"))]
        assert all((page.parent / one.partition("?")[0]).exists() for one in here), page


def test_no_page_and_no_style_fetches_anything_from_elsewhere(site: Path) -> None:
    fetched = {one for page in site.rglob("*.html") for one in resources_of(page)}
    styles = "".join(sheet.read_text("utf-8") for sheet in site.rglob("*.css"))

    elsewhere = re.compile(r"""['"]?(?:https?:)?//""")
    assert fetched and styles
    assert not {one for one in [*fetched, *re.findall(r"url\(([^)]*)\)", styles)] if elsewhere.match(one)}


def test_every_page_can_be_found_from_the_first(site: Path) -> None:
    """Decisions are listed by their folder alone."""
    navigation = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]["nav"]
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").glob("*.md")}

    assert pages - set(leaves(navigation)) == set()


def leaves(entry: Any) -> Iterator[str]:
    match entry:
        case str():
            yield entry
        case list():
            yield from (leaf for one in entry for leaf in leaves(one))
        case dict():
            yield from (leaf for one in entry.values() for leaf in leaves(one))


@pytest.mark.live
@NO_CHROMIUM
async def test_a_browser_reads_and_searches_it_and_asks_nobody_else(site: Path) -> None:
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            address = f"http://127.0.0.1:{server.server_port}/"
            async with browser() as opened, page_of(opened, address) as page:
                await expect(page.get_by_role("heading", name="meshd", exact=False).first).to_be_visible()
                await page.goto(f"{address}protocol.html")
                await expect(page).to_have_title(re.compile("protocol", re.IGNORECASE))
        finally:
            server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Says nothing of each request."""

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""
