"""Write the golden vectors that do not exist yet: `python -m tools.vectors`.

What stands in tests/*/vectors/ is never overwritten: a later version has to read it. When a message gains a field,
move its vector to `earlier/` beside it and run this; the new one takes the old name.
"""

from __future__ import annotations

import importlib
import json

from tests.golden import PACKAGES, TESTS, dump
from tests.transport.examples import known_answers


def write_missing() -> list[str]:
    """Write every example that has no vector; their names."""
    written = []
    for package in PACKAGES:
        for name, example in importlib.import_module(f"tests.{package}.examples").examples().items():
            path = TESTS / package / "vectors" / f"{name}.json"
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                path.write_text(dump(example), "utf-8")
                written.append(f"{package}/{name}")
    return written + _write_known_answers()


def _write_known_answers() -> list[str]:
    path = TESTS / "transport" / "known_answers.json"
    if path.exists():
        return []
    path.write_text(json.dumps(known_answers(), indent=1) + "\n", "utf-8")
    return ["transport/known_answers"]


def main() -> None:
    """Say what was written."""
    written = write_missing()
    print("\n".join(written) if written else "no example lacks a vector")


if __name__ == "__main__":
    main()
