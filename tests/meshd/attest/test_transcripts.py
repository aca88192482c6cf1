"""Transcripts on disk within their quota, and from peers that may send anything."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from meshd.attest.attestation import Signed
from meshd.attest.race_message import MAX_TRANSCRIPT_BYTES, Found, read_opening, to_record
from meshd.attest.transcript import digest_of
from meshd.attest.transcripts import TranscriptStore, fetch_from
from tests.meshd.attest.racing import Racer, race_field
from transport import virtual_time
from transport.interface import Record, RecordKind, Stream

SIGNED = Signed(b"findings", b"k" * 32, b"s" * 64)
TRANSCRIPT = b"all that was said"


def test_what_is_kept_is_found_by_its_digest_and_a_damaged_one_is_not(tmp_path: Path) -> None:
    store = TranscriptStore(tmp_path / "kept")
    assert store.find(digest_of(TRANSCRIPT)) is None
    path = store.keep(TRANSCRIPT, SIGNED)
    kept = store.find(digest_of(TRANSCRIPT))
    assert kept is not None
    assert (kept.transcript, kept.signed) == (TRANSCRIPT, SIGNED)
    assert path.stat().st_mode & 0o077 == 0
    other = store.path(b"o" * 32)
    path.rename(other)
    assert store.find(b"o" * 32) is None
    other.write_bytes(b"\xc1")
    assert store.find(b"o" * 32) is None
    other.write_bytes(bytes(2 * MAX_TRANSCRIPT_BYTES))
    assert store.find(b"o" * 32) is None


def test_the_oldest_give_way_past_the_quota_and_nothing_else_does(tmp_path: Path) -> None:
    store = TranscriptStore(tmp_path, quota_bytes=2500)
    (tmp_path / "notes").write_bytes(bytes(10_000))
    transcripts = [bytes([number]) * 1000 for number in range(4)]
    for number, transcript in enumerate(transcripts):
        os.utime(store.keep(transcript, SIGNED), ns=(number, number))
    assert [store.find(digest_of(one)) is not None for one in transcripts] == [False, False, True, True]
    assert (tmp_path / "notes").exists()


def sending(*records: Record) -> Callable[[Racer, Stream], Awaitable[None]]:
    """A node that answers so, whatever it is asked."""

    async def serve(liar: Racer, stream: Stream) -> None:
        read_opening(await stream.receive(), stream.peer.node)
        for record in records:
            await stream.send(record)
        await stream.finish()

    return serve


@pytest.mark.parametrize(
    "records",
    [
        (to_record(Found()), Record(RecordKind.DATA, b"something else")),
        (to_record(Found()), Record(RecordKind.MESSAGE, TRANSCRIPT)),
        (to_record(Found()),),
        (Record(RecordKind.DATA, TRANSCRIPT),),
        (),
    ],
    ids=["other bytes", "a message", "nothing after all", "no answer first", "nothing"],
)
def test_a_peer_that_sends_something_else_is_passed_over(tmp_path: Path, records: tuple[Record, ...]) -> None:
    async def scenario() -> None:
        async with race_field(tmp_path) as field:
            asker, liar, holder = await field.enter(), await field.enter(liar=sending(*records)), await field.enter()
            holder.races.context.store.keep(TRANSCRIPT, SIGNED)
            digest = digest_of(TRANSCRIPT)
            assert await fetch_from(asker.transport, [liar.node], digest) is None
            assert await fetch_from(asker.transport, [liar.node, holder.node], digest) == TRANSCRIPT
            assert await fetch_from(asker.transport, [holder.node], b"n" * 32) is None

    virtual_time.run(scenario())
