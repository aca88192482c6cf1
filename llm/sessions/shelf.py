"""Keeps parked sessions on disk: their tokens, and the state of their sequence with its hash.

A state is taken back only by a context of the same kind; any other way the session is read again from its tokens. The
tokens are written at the end of every answer, so a process that dies loses states, but no session.
"""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

logger = logging.getLogger("meshd.sessions")

RECORD = ".session"
STATE = ".state"


class KeptSession(msgspec.Struct, frozen=True):
    """A session on disk. tokens, cached: 32-bit ids; cached: those in its state.  digest: SHA-256 of the state.

    bounds: sink, window, spans; None for a whole one.  kind: of the context that the state is of.
    """

    id: str
    owner: str
    tokens: bytes
    cached: bytes = b""
    digest: str = ""
    kind: str = ""
    bounds: tuple[int, int, int] | None = None
    draft_model: str = ""


@dataclass(frozen=True, slots=True)
class Shelf:
    """folder: made, readable by its owner only."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def write(self, kept: KeptSession) -> None:
        """Write the session down; raises OSError."""
        _write(self._path(kept.id, RECORD), msgspec.msgpack.encode(kept))

    def read_all(self) -> list[KeptSession]:
        """Every session that is legible."""
        found = []
        for path in sorted(self.folder.glob(f"*{RECORD}")):
            try:
                found.append(msgspec.msgpack.decode(path.read_bytes(), type=KeptSession))
            except (OSError, msgspec.DecodeError) as error:
                logger.warning("session file %s is not legible and is left alone: %s", path.name, error)
        return found

    def write_state(self, session: str, state: bytes) -> str:
        """Write a state; its SHA-256. Raises OSError."""
        _write(self._path(session, STATE), state)
        return hashlib.sha256(state).hexdigest()

    def read_state(self, session: str, digest: str) -> bytes | None:
        """The state with that hash; None when it is not there or damaged."""
        try:
            state = self._path(session, STATE).read_bytes()
        except OSError:
            return None
        if hashlib.sha256(state).hexdigest() != digest:
            logger.warning("the state of session %s… is damaged; it is read again from its tokens", session[:26])
            return None
        return state

    def state_bytes(self, session: str) -> int:
        """How large its state is; 0 when there is none."""
        path = self._path(session, STATE)
        return path.stat().st_size if path.exists() else 0

    def forget_state(self, session: str) -> None:
        self._path(session, STATE).unlink(missing_ok=True)

    def remove(self, session: str) -> None:
        self._path(session, RECORD).unlink(missing_ok=True)
        self.forget_state(session)

    def _path(self, session: str, suffix: str) -> Path:
        return self.folder / f"{session}{suffix}"


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, for its owner's eyes."""
    aside = path.with_suffix(path.suffix + ".new")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    aside.replace(path)
