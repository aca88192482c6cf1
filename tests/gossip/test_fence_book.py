"""What a node has promised outlives it: kills, full disks and damaged files."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gossip.fence import Fence
from gossip.fence_book import FenceBook
from tests.gossip.leases import ALICE, BOB, MODEL
from transport import whole_file
from transport.errors import ProtocolError
from transport.whole_file import replace_file

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def running(book: FenceBook) -> AsyncIterator[FenceBook]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(book.run())
        yield book
        task.cancel()


async def test_what_was_waited_for_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "fences"
    async with running(FenceBook(path, ALICE)) as book:
        assert book.highest_term(MODEL) == 0
        assert await book.keep_claim(MODEL, 3)
        book.fences.raise_to("host/other", 9, BOB)
        await book.saved()
    again = FenceBook(path, ALICE)
    assert (again.fences.get(MODEL), again.fences.get("host/other")) == (Fence(3, ALICE), Fence(9, BOB))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_term_that_another_host_got_here_is_not_claimed(tmp_path: Path) -> None:
    async with running(FenceBook(tmp_path / "fences", ALICE)) as book:
        book.fences.raise_to(MODEL, 5, BOB)
        assert not await book.keep_claim(MODEL, 5)
        assert await book.keep_claim(MODEL, 6)
        assert await book.keep_claim(MODEL, 6)


async def test_nothing_is_written_where_nothing_changed(tmp_path: Path) -> None:
    path = tmp_path / "fences"
    async with running(FenceBook(path, ALICE)) as book:
        await book.saved()
        assert not path.exists()
        await book.keep_claim(MODEL, 1)
        before = path.stat().st_ino
        await book.keep_claim(MODEL, 1)
        assert path.stat().st_ino == before


async def test_many_that_wait_at_once_are_all_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "fences"

    async def claim(number: int) -> None:
        await book.keep_claim(f"host/{number}", 1)
        assert f"host/{number}" in FenceBook(path, ALICE).fences

    async with running(FenceBook(path, ALICE)) as book, asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(claim(number))


async def test_a_full_disk_is_told_to_who_waits_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "fences"
    async with running(FenceBook(path, ALICE)) as book:
        await book.keep_claim(MODEL, 1)
        with monkeypatch.context() as disk:
            disk.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space"):
                await book.keep_claim(MODEL, 2)
        assert FenceBook(path, ALICE).highest_term(MODEL) == 1
        assert await book.keep_claim(MODEL, 2)
        assert FenceBook(path, ALICE).highest_term(MODEL) == 2


async def test_who_waits_when_the_book_is_closed_does_not_wait_for_ever(tmp_path: Path) -> None:
    book = FenceBook(tmp_path / "fences", ALICE)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(book.keep_claim(MODEL, 1))
        task = group.create_task(book.run())
        await asyncio.sleep(0)
        task.cancel()
    assert waiting.cancelled()


def test_a_file_cut_short_anywhere_is_noticed_and_never_read_as_lower(tmp_path: Path) -> None:
    """As no crash of ours leaves it: `replace_file` does that, and the next test shows it."""
    path = tmp_path / "fences"
    book = FenceBook(path, ALICE)
    for number in range(5):
        book.fences.raise_to(f"host/{number}", 10 + number, BOB)
    whole = book.fences.encode()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ProtocolError, match="fences"):
            FenceBook(path, ALICE)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ProtocolError, match="fences"):
            FenceBook(path, ALICE)


def test_a_crash_while_writing_leaves_the_old_file_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each step that writing takes, the process ends there."""

    class Crash(BaseException):
        pass

    path = tmp_path / "fences"
    book = FenceBook(path, ALICE)
    book.fences.raise_to(MODEL, 1, ALICE)
    replace_file(path, book.fences.encode())
    book.fences.raise_to(MODEL, 2, ALICE)
    found = []
    for owner, step in ((os, "fsync"), (Path, "replace"), (whole_file, "_sync_folder")):

        def crash(*arguments: object, **options: object) -> None:
            raise Crash

        with monkeypatch.context() as process:
            process.setattr(owner, step, crash)
            process.setattr(Path, "unlink", crash)  # nobody cleans up after a crash
            with pytest.raises(Crash):
                replace_file(path, book.fences.encode())
        found.append(FenceBook(path, ALICE).highest_term(MODEL))
    assert found == [1, 1, 2]


@pytest.mark.live
def test_a_killed_process_has_forgotten_no_promise(tmp_path: Path) -> None:
    path = tmp_path / "fences"
    promised = 0
    for _ in range(4):
        command = [sys.executable, "-m", "tests.gossip.fence_writer", str(path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(20)]
            process.kill()
            lines += process.stdout.readlines()
        promised = max(promised, *(int(line) for line in lines if line.endswith("\n")))
        assert FenceBook(path, ALICE).highest_term(MODEL) >= promised
    assert promised >= 80
