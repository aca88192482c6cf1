"""Write every version that `uv lock` resolved into `[tool.uv] constraint-dependencies`.

`uv.lock` names registry hosts and stays out of git; this list pins the same versions without them.
Usage: `just pin` (resolves afresh, newest allowed versions), then review the diff of pyproject.toml.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

PYPROJECT = Path("pyproject.toml")
BLOCK = re.compile(r"# pinned by `just pin`\nconstraint-dependencies = \[\n.*?\n\]\n", re.DOTALL)


def resolve() -> list[dict[str, object]]:
    """Resolve without the old pins; the packages of the new lock, sorted by name."""
    Path("uv.lock").unlink(missing_ok=True)
    subprocess.run(["uv", "lock", "--quiet"], check=True)
    packages = tomllib.loads(Path("uv.lock").read_text())["package"]
    return sorted((p for p in packages if "registry" in p["source"]), key=lambda p: (p["name"], p["version"]))


def requirement(package: dict[str, object]) -> list[str]:
    """`name==version`, once for each Python range where the lock forks."""
    pin = f"{package['name']}=={package['version']}"
    markers = package.get("resolution-markers")
    return [f"{pin} ; {marker}" for marker in markers] if isinstance(markers, list) else [pin]


def main() -> None:
    """Replace the pinned block of pyproject.toml."""
    before = PYPROJECT.read_text()
    PYPROJECT.write_text(BLOCK.sub("", before))
    try:
        pins = [line for package in resolve() for line in requirement(package)]
    except subprocess.CalledProcessError:
        PYPROJECT.write_text(before)
        raise SystemExit("uv lock found no resolution; pyproject.toml is unchanged") from None
    block = "\n".join(f'  "{pin}",' for pin in pins)
    text = PYPROJECT.read_text().replace(
        "[tool.uv]\n", f"[tool.uv]\n# pinned by `just pin`\nconstraint-dependencies = [\n{block}\n]\n", 1
    )
    PYPROJECT.write_text(text)
    print(f"{len(pins)} versions pinned")


if __name__ == "__main__":
    main()
