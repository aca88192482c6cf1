"""Runs a command of the owner's to its end, with a deadline."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Sequence

QUOTED_BYTES = 300


class CommandFailed(Exception):
    """The command did not end well; the message says how, and what it printed last."""


async def run_command(argv: Sequence[str], timeout_s: float) -> None:
    """Run `argv` and wait for exit status 0. Killed when it takes longer. Raises CommandFailed."""
    try:
        process = await asyncio.create_subprocess_exec(*argv, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT)
    except OSError as error:
        raise CommandFailed(f"`{argv[0]}` cannot be run: {error.strerror or error}") from error
    try:
        async with asyncio.timeout(timeout_s):
            printed, _ = await process.communicate()
    except TimeoutError as error:
        raise CommandFailed(f"`{argv[0]}` did not end within {timeout_s:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        said = printed[-QUOTED_BYTES:].decode(errors="replace").strip()
        raise CommandFailed(f"`{argv[0]}` exited with status {process.returncode}: {said or 'it printed nothing'}")
