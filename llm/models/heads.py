"""Reads what a model says of itself where only others have its files: their first megabytes come, and no more.

The bytes come as any do, from peers or the hub (`llm.models.fetch`), into a folder that is gone afterwards.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from llm.gguf import ModelFile, Part, has_whole_head, read_beginnings
from llm.models.fetch import Fetcher, FetchFailed, WantedFile, Wish
from llm.models.transfer import Meter

LOOK_INTERVAL_S = 0.1
DEADLINE_S = 60.0


async def read_head(wish: Wish, folder: Path, fetcher: Callable[[Path], Fetcher]) -> ModelFile:
    """What the model that `wish` names says of itself.

    folder: where a folder for the bytes may be made.  fetcher: one that fetches into a folder, however little room
    its disk has.  Raises FetchFailed, BadModelFile.
    """
    await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="head-", ignore_cleanup_errors=True) as name:
        fetching = fetcher(Path(name))
        try:
            async with asyncio.timeout(DEADLINE_S):
                parts = [await _beginning(file, wish, fetching) for file in wish.files]
        except TimeoutError as error:
            raise FetchFailed(f"the head of {wish.files[0].name} did not come within {DEADLINE_S:.0f} s") from error
        return await asyncio.to_thread(read_beginnings, parts)


async def _beginning(file: WantedFile, wish: Wish, fetcher: Fetcher) -> Part:
    """As much of `file` as its head takes. Raises FetchFailed."""
    alone = Wish((file,), wish.peers, wish.listing)
    failure: FetchFailed | None = None
    async with asyncio.TaskGroup() as group:
        fetching = group.create_task(_fetched(fetcher, alone), name=f"fetch the head of {file.name}")
        while (found := await asyncio.to_thread(_whole_head, file, fetcher)) is None:
            if fetching.done() and (failure := fetching.result()) is not None:
                break
            await asyncio.sleep(LOOK_INTERVAL_S)
        fetching.cancel()
    if found is None:
        assert failure is not None
        raise failure
    return found


async def _fetched(fetcher: Fetcher, wish: Wish) -> FetchFailed | None:
    try:
        await fetcher.fetch(wish, Meter())
    except FetchFailed as error:
        return error
    return None


def _whole_head(file: WantedFile, fetcher: Fetcher) -> Part | None:
    """The part, once its head is here."""
    arriving = fetcher.folder / "arriving"
    places = (fetcher.place((file,)) / file.name, arriving / file.sha256, arriving / "partial" / file.sha256)
    # By a name of our own, for what has arrived whole is moved.
    kept = fetcher.folder / f"head-of-{file.sha256}"
    for place in places:
        with suppress(FileNotFoundError, FileExistsError):
            kept.hardlink_to(place)
    part = Part(Path(file.name), kept, file.size)
    return part if kept.exists() and has_whole_head(part) else None
