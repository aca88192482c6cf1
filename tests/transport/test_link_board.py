"""The board shows every link's last state and wakes whoever waits for a change."""

from __future__ import annotations

import asyncio

from transport.interface import LinkChanged, LinkState, NodeId
from transport.link_board import LinkBoard

NODE = NodeId(b"\x01" * 32)


def change(state: LinkState) -> LinkChanged:
    return LinkChanged(NODE, state, None, None, "test")


async def test_shows_the_last_state() -> None:
    board = LinkBoard()
    assert board.state(NODE) is None
    board.heard(change(LinkState.CONNECTED))
    board.heard(change(LinkState.RECONNECTING))
    assert board.state(NODE) is LinkState.RECONNECTING


async def test_wakes_everyone_who_waits_once() -> None:
    board = LinkBoard()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        waiting = [group.create_task(board.changed()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        board.heard(change(LinkState.LOST))
        board.heard(change(LinkState.CONNECTED))
    assert board.state(NODE) is LinkState.CONNECTED


async def test_change_before_the_wait_does_not_end_it_and_cancelling_leaves_nothing() -> None:
    board = LinkBoard()
    board.heard(change(LinkState.CONNECTED))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(board.changed())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        waiting.cancel()
    assert not board._waiting
