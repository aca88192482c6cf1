"""The commands that README.md and the pages under docs/ tell to type: what stands in blocks marked `sh`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

from meshd.cli.app import app
from tests.docs.not_typed import NOT_TYPED

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"\s+# .*$")
SUBCOMMANDS = frozenset(typer.main.get_group(app).commands)


@dataclass(frozen=True, slots=True)
class Command:
    """One command and the page that has it, by its path in the repository."""

    page: str
    text: str

    @property
    def reason_not_to(self) -> str | None:
        """Why it is not typed; None when it is."""
        return next((reason for pattern, reason in NOT_TYPED if re.fullmatch(pattern, self.text)), None)

    @property
    def starts_an_agent(self) -> bool:
        """Whether it is `meshd` with flags alone, which runs until it is stopped."""
        words = self.text.split()
        return words[0] == "meshd" and not SUBCOMMANDS.intersection(words)


def commands() -> list[Command]:
    """All of them, in the order of the pages' names and of the pages."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [Command(page.relative_to(ROOT).as_posix(), text) for page in pages for text in _lines(page)]


def _lines(page: Path) -> Iterator[str]:
    for block in BLOCK.findall(page.read_text("utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            text = re.sub(r" {2,}", " ", COMMENT.sub("", line)).strip()
            if text and not text.startswith("#"):
                yield text
