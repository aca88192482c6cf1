"""docs/gossip.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_page_names_is_there() -> None:
    page = (ROOT / "docs/gossip.md").read_text("utf-8")
    quoted = " ".join(re.findall(r"`([^`]+)`", page))
    files = {path.name: path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    everything = "\n".join(files.values())
    named_files = set(re.findall(r"\btest_\w+\.py", quoted))
    names = set(re.findall(r"(?:::|…)(\w+)", quoted))
    assert named_files and names
    assert not named_files - files.keys()
    missing = [name for name in names if not re.search(rf"def \w*{name}", everything)]
    assert not missing
