"""Reading the configuration for a command: flags, environment and `meshd.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meshd.config import BadConfig, Resolved, resolve


def read_settings(flags: Mapping[str, Any], environment: Mapping[str, str]) -> Resolved:
    """The merged configuration. Raises BadConfig, with the file's name where it is at fault."""
    named = flags.get("config") or environment.get("MESHD_CONFIG")
    base = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = Path(named) if named else base / "meshd" / "meshd.toml"
    return resolve(flags, environment, _document(path, required=bool(named)))


def _document(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise BadConfig(f"{path}: no such configuration file") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadConfig(f"{path}: {error}") from None
