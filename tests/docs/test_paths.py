"""Every file and recipe that the documents name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PACKAGES = ("meshd", "transport", "gossip", "forms", "llm", "tests", "bench", "tools", "docs", "newsfragments")
# `gossip/1` and the like are protocols.
NAMED_PATH = re.compile(rf"`((?:{'|'.join(PACKAGES)})/(?!\d+`)[\w./-]*)`")
RECIPE = re.compile(r"`just ([a-z-]+)")
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


def named(pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    return [
        (str(page.relative_to(ROOT)), match) for page in PAGES for match in pattern.findall(page.read_text("utf-8"))
    ]


@pytest.mark.parametrize(("page", "path"), named(NAMED_PATH))
def test_a_named_path_exists(page: str, path: str) -> None:
    assert (ROOT / path).exists(), f"{page} names {path}"


@pytest.mark.parametrize(("page", "recipe"), named(RECIPE))
def test_a_named_recipe_exists(page: str, recipe: str) -> None:
    recipes = re.findall(r"^([a-z-]+)[^:\n]*:(?!=)", (ROOT / "justfile").read_text("utf-8"), re.MULTILINE)
    assert recipe in recipes, f"{page} names `just {recipe}`"


@pytest.mark.parametrize(("page", "target"), named(LINK))
def test_a_link_leads_somewhere(page: str, target: str) -> None:
    assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


def test_the_walks_name_files() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    walks = page.partition("## Four walks")[2]
    assert len(NAMED_PATH.findall(walks)) >= 20
