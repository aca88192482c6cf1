"""The data directory: keys, membership, tokens and the boot counter, each written whole or not at all.

Layout: format (of the layout), node.key, root.key and root.next (founder only), mesh (membership), revoked, tokens
(issuers only), delegates (founder only), boot, addresses, fences, keys.json, models.json, digests.json, control.sock,
meshd.lock, logs/, engines/, models/, blobs/, transcripts/.
The directory is 0700, files 0600.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from transport.whole_file import replace_file


class DataDirBusy(Exception):
    """Another agent runs on this data directory."""


class DataDirDamaged(Exception):
    """A file of the data directory does not hold what it should; the message names it."""


class DataDirUnusable(DataDirDamaged):
    """It cannot be made, or is not this user's."""


class DataDirTooNew(DataDirDamaged):
    """A later version wrote it, in a way that this one may misread."""


FORMAT = 1
"""Of what lies in the directory. It is raised only by a version whose files an earlier one would misread; every version
reads what earlier ones wrote (tests/meshd/data_dirs has one of each)."""


@dataclass(frozen=True, slots=True)
class DataDir:
    """Paths and whole-file reads and writes below one directory."""

    root: Path

    @property
    def control_socket(self) -> Path:
        return self.root / "control.sock"

    @property
    def addresses(self) -> Path:
        return self.root / "addresses"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def transcripts(self) -> Path:
        return self.root / "transcripts"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def create(self) -> None:
        """Make the directory and its folders, closed to others. Raises DataDirUnusable."""
        try:
            for folder in (self.root, self.logs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.root.chmod(0o700)
        except OSError as error:
            raise DataDirUnusable(
                f"{self.root} cannot be this node's data directory: {error.strerror}; name another with --data-dir"
            ) from error

    def claim_format(self) -> None:
        """Note that this version writes here. Raises DataDirTooNew where a later one has, DataDirDamaged."""
        self.check_format()
        if self.read("format") != str(FORMAT).encode():
            self.write("format", str(FORMAT).encode())

    def check_format(self) -> None:
        """Raises DataDirTooNew, DataDirDamaged. Directories of before there were formats are as those of the first."""
        content = self.read("format")
        if content is None:
            return
        if not content.strip().isdigit():
            raise DataDirDamaged(f"{self.root / 'format'} is not a number; restore the directory from a backup")
        if int(content) > FORMAT:
            raise DataDirTooNew(
                f"a newer meshd has written {self.root} (format {int(content)}; this version reads up to {FORMAT}): "
                "start that version again, restore a copy of the directory, or give this one its own --data-dir"
            )

    def read(self, name: str) -> bytes | None:
        """The file's bytes, or None when there is none."""
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Replace the file atomically and durably (fsync of the file and of the directory), mode 0600."""
        replace_file(self.root / name, content)

    def remove(self, name: str) -> None:
        """Delete the file if it is there."""
        (self.root / name).unlink(missing_ok=True)

    def next_boot(self, at_least: int = 0) -> int:
        """Count this start: a number above every earlier one, on disk before it is used.

        at_least: the highest boot that a peer remembers of this node, which heals a lost file.
        """
        kept = self.read("boot") or b"0"
        try:
            boot = max(int(kept), at_least) + 1
        except ValueError:
            raise DataDirDamaged(f"{self.root / 'boot'} is not a number; delete it, peers remember the value") from None
        self.write("boot", str(boot).encode())
        return boot

    def keep_boot(self, boot: int) -> None:
        """Note that this run took a higher number than it started with, because peers remember one."""
        self.write("boot", str(boot).encode())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for one agent. Raises DataDirBusy with the holder's pid."""
        handle = os.open(self.root / "meshd.lock", os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(handle, "r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise DataDirBusy(
                    f"another meshd (pid {holder}) runs on {self.root}; stop it, or give this one its own --data-dir"
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield
