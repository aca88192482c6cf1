"""The sessions that this node keeps, as status shows them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from llm.sessions.stats import SessionStats


def session_rows(stats: Mapping[str, SessionStats]) -> list[dict[str, Any]]:
    """For each model that has any: how many are where, and what they take. Without those that have none open."""
    return [{"model": model, **asdict(one)} for model, one in sorted(stats.items()) if one.open]
