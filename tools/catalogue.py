"""Refresh the tables of docs/forms.md from the catalogue's data: `python -m tools.catalogue`, or `just docs`.

The page says where a table stands, the data what is in it; a test compares the two:

    <!-- catalogue callable -->    the forms that ship, ours and others' figures
    <!-- catalogue wave 2 -->      one wave of the survey
    …
    <!-- end -->
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from forms.catalogue import shipped
from forms.survey.entries import Entry, Status, entries_of

PAGE = Path(__file__).parents[1] / "docs" / "forms.md"

_BLOCK = re.compile(r"<!-- catalogue (callable|wave (\d)) -->\n.*?<!-- end -->\n", re.DOTALL)


def refreshed(page: str) -> str:
    """`page` with every table as the data has it now."""
    entries = entries_of(shipped())
    return _BLOCK.sub(lambda found: _block(found, entries), page)


def waves_on(page: str) -> set[int]:
    """The waves that have a table on `page`."""
    return {int(wave) for _, wave in _BLOCK.findall(page) if wave}


def main() -> None:
    """Write the page anew; say whether that changed anything."""
    before = PAGE.read_text("utf-8")
    after = refreshed(before)
    PAGE.write_text(after, "utf-8")
    print("docs/forms.md was up to date" if after == before else "docs/forms.md was refreshed")


def _block(found: re.Match[str], entries: Iterable[Entry]) -> str:
    what, wave = found.groups()
    table = _wave(entries, int(wave)) if wave else _callable(entries)
    return f"<!-- catalogue {what} -->\n{table}<!-- end -->\n"


def _callable(entries: Iterable[Entry]) -> str:
    rows = [
        (
            f"`{entry.name}`",
            f"`{entry.magic}`" if entry.magic else "text only",
            entry.status,
            _ours(entry),
            *_theirs(entry),
        )
        for entry in entries
        if entry.status is not Status.SURVEYED
    ]
    return _table(("form", "frame", "status", "measured here", "published", "on", "by"), rows)


def _wave(entries: Iterable[Entry], wave: int) -> str:
    rows = [
        (f"`{entry.name}`", entry.status, *_theirs(entry))
        for entry in entries
        if entry.published is not None and entry.published.wave == wave
    ]
    return _table(("form", "status", "published", "on", "by"), rows)


def _ours(entry: Entry) -> str:
    one = entry.measured
    return f"{one.figure} ({one.device}, {one.date}, `{one.command}`)" if one is not None else "not on a GPU yet"


def _theirs(entry: Entry) -> tuple[str, str, str]:
    one = entry.published
    return (one.figure, one.hardware, one.reference) if one is not None else ("", "", "")


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
