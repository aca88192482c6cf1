"""Runs a command of the owner's to its end, with a deadline.

What it prints goes to a file: a server that it leaves running may hold a pipe open for ever.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from asyncio.subprocess import DEVNULL, STDOUT
from collections.abc import Sequence
from typing import BinaryIO

QUOTED_BYTES = 300


class CommandFailed(Exception):
    """The command did not end well; the message says how, and what it printed last."""


async def run_command(argv: Sequence[str], timeout_s: float) -> None:
    """Run `argv` and wait for exit status 0. Killed when it takes longer. Raises CommandFailed."""
    with tempfile.TemporaryFile() as printed:
        status = await _status(argv, timeout_s, printed)
        if status:
            said = _end_of(printed)
            raise CommandFailed(f"`{argv[0]}` exited with status {status}: {said or 'it printed nothing'}")


async def _status(argv: Sequence[str], timeout_s: float, printed: BinaryIO) -> int:
    try:
        process = await asyncio.create_subprocess_exec(*argv, stdin=DEVNULL, stdout=printed, stderr=STDOUT)
    except OSError as error:
        raise CommandFailed(f"`{argv[0]}` cannot be run: {error.strerror or error}") from error
    try:
        async with asyncio.timeout(timeout_s):
            return await process.wait()
    except TimeoutError as error:
        raise CommandFailed(f"`{argv[0]}` did not end within {timeout_s:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _end_of(printed: BinaryIO) -> str:
    printed.seek(max(0, printed.seek(0, os.SEEK_END) - QUOTED_BYTES))
    return printed.read().decode(errors="replace").strip()
