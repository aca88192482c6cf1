"""What waits for the layers above: in which order it is given, what is dropped, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from transport import inbox
from transport.inbox import MAX_WAITING_DATAGRAMS, Inbox
from transport.interface import DatagramReceived, LinkChanged, LinkState, NodeId, TransportEvent

A, B = NodeId(b"\x01" * 32), NodeId(b"\x02" * 32)


def change(state: LinkState) -> LinkChanged:
    return LinkChanged(A, state, None, None, "test")


async def taken(events: AsyncIterator[TransportEvent]) -> list[TransportEvent]:
    async with asyncio.timeout(60):
        return [event async for event in events]


async def test_nobody_hears_from_a_peer_before_hearing_of_it() -> None:
    box = Inbox()
    box.put_datagram(A, b"hello")
    box.put_change(change(LinkState.CONNECTED))
    box.close()
    assert await taken(box.events()) == [change(LinkState.CONNECTED), DatagramReceived(A, b"hello")]


async def test_whoever_waits_is_woken_by_news_and_by_the_end() -> None:
    box = Inbox()
    loop = asyncio.get_running_loop()
    loop.call_later(0.01, box.put_datagram, A, b"late")
    loop.call_later(0.02, box.close)
    assert await taken(box.events()) == [DatagramReceived(A, b"late")]
    async with asyncio.timeout(60):
        assert [stream async for stream in box.streams()] == []


async def test_of_too_many_datagrams_the_oldest_of_the_loudest_are_dropped_and_counted() -> None:
    box = Inbox()
    box.put_datagram(B, b"quiet")
    for number in range(MAX_WAITING_DATAGRAMS + 9):
        box.put_datagram(A, b"%d" % number)
    box.close()
    payloads = [event.payload for event in await taken(box.events()) if isinstance(event, DatagramReceived)]
    assert box.dropped_datagrams == 10 and len(payloads) == MAX_WAITING_DATAGRAMS
    assert b"quiet" in payloads and b"9" not in payloads and b"10" in payloads


async def test_changes_are_never_dropped_so_that_not_taking_them_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "MAX_WAITING_CHANGES", 2)
    box = Inbox()
    box.put_change(change(LinkState.CONNECTED))
    box.put_change(change(LinkState.LOST))
    with pytest.raises(RuntimeError, match="nobody takes"):
        box.put_change(change(LinkState.CONNECTED))
