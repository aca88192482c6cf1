"""A process that raises a fence for ever and says what it may promise: `python -m tests.gossip.fence_writer FILE`.

Prints each term once it is on disk, one a line, until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gossip.fence_book import FenceBook
from tests.gossip.leases import MODEL, WORKER


async def write(path: Path) -> None:
    book = FenceBook(path, WORKER)
    async with asyncio.TaskGroup() as group:
        group.create_task(book.run())
        while True:
            term = book.highest_term(MODEL) + 1
            assert await book.keep_claim(MODEL, term)
            print(term, flush=True)


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1])))
