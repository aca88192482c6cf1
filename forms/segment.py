"""Memory that an agent shares with its worker: long requests and replies lie there and not in a pipe.

It has no name in any file system. Whoever dies, and however, it goes with the last process that holds it.
"""

from __future__ import annotations

import os
import weakref

KEPT_BYTES = 16 << 20
"""What a segment keeps between calls: pages that are there already need not be made and cleared again."""


class Segment:
    """A file in memory, written and read from its start. For one writer at a time; may be called in threads.

    Its descriptor is closed with the object, so that no thread is left with a number that means another file.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    @classmethod
    def create(cls, name: str) -> Segment:
        """A new and empty one. name: as /proc shows it."""
        return cls(os.memfd_create(name))

    def write(self, data: bytes | memoryview) -> None:
        """Raises OSError where there is no memory for it."""
        view, at = memoryview(data), 0
        while at < len(view):
            at += os.pwrite(self.descriptor, view[at:], at)

    def read(self, length: int) -> bytes:
        """Raises EOFError where less was written."""
        data = os.pread(self.descriptor, length, 0)
        while len(data) < length:  # Linux gives at most 2 GiB at a time
            more = os.pread(self.descriptor, length - len(data), len(data))
            if not more:
                raise EOFError(f"expected {length} bytes in the shared segment, found {len(data)}")
            data += more
        return data

    def trim(self, kept_bytes: int = KEPT_BYTES) -> None:
        """Give back what is more than it shall keep."""
        if os.fstat(self.descriptor).st_size > kept_bytes:
            os.ftruncate(self.descriptor, kept_bytes)
