"""Reads and bounds the log file of a child process that goes on writing to it."""

from __future__ import annotations

import shutil
from pathlib import Path

TAIL_BYTES = 16 << 10
MAX_LINE = 200


def size_bytes(log: Path) -> int:
    """How long the log is; 0 when there is none yet."""
    return log.stat().st_size if log.exists() else 0


def read_from(log: Path, offset: int, limit_bytes: int = 1 << 20) -> str:
    """The text after `offset` bytes, at most `limit_bytes` of it; a log that became shorter was begun anew."""
    size = size_bytes(log)
    if not size:
        return ""
    with log.open("rb") as file:
        file.seek(offset if offset <= size else 0)
        return file.read(limit_bytes).decode("utf-8", errors="replace")


def last_lines(log: Path, count: int, offset: int = 0) -> list[str]:
    """The last lines that are not blank, written after `offset`, each shortened to MAX_LINE characters."""
    size = size_bytes(log)
    text = read_from(log, max(offset if offset <= size else 0, size - TAIL_BYTES), TAIL_BYTES)
    lines = [line.strip()[:MAX_LINE] for line in text.splitlines() if line.strip()]
    return lines[-count:]


def trim(log: Path, limit_bytes: int) -> bool:
    """Move the log's content to NAME.1 once it is longer than `limit_bytes`; whether it was.

    The file itself stays, because the child keeps it open for appending. What it writes between the copy
    and the cut is lost.
    """
    if size_bytes(log) <= limit_bytes:
        return False
    shutil.copyfile(log, log.with_name(log.name + ".1"))
    with log.open("r+b") as file:
        file.truncate(0)
    return True
