"""The transcripts that this node keeps, on disk and within a quota, the oldest giving way; and those of other nodes.

What a fetched transcript shows is for `judging`; here it is bytes that have the right digest.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meshd.attest.attestation import Signed
from meshd.attest.race_message import (
    MAX_TRANSCRIPT_BYTES,
    PROTOCOL,
    Fetch,
    Found,
    Missing,
    read_found,
    to_record,
)
from meshd.attest.transcript import MAX_FILE_BYTES, Kept, decode_kept, digest_of
from transport import wire
from transport.errors import MeshError, ProtocolError, ResetCode
from transport.identity import short
from transport.interface import NodeId, Record, RecordKind, Stream, StreamHeader
from transport.question import Opener
from transport.whole_file import replace_file

logger = logging.getLogger("meshd.attest")

QUOTA_BYTES = 64 << 20
FETCH_S = 30.0
_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class TranscriptStore:
    """Files below `folder`, each named by its transcript's digest. Blocks: callers on the loop use a thread."""

    folder: Path
    quota_bytes: int = QUOTA_BYTES

    def keep(self, transcript: bytes, signed: Signed) -> Path:
        """Write a transcript down with what its verifier attests of it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.path(digest_of(transcript))
        replace_file(path, wire.encode(Kept(transcript, signed)))
        self._make_room(path)
        return path

    def find(self, digest: bytes) -> Kept | None:
        """None for one that is not here, or not as it was written."""
        path = self.path(digest)
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                return None
            kept = decode_kept(path.read_bytes())
        except FileNotFoundError:
            return None
        except ProtocolError as error:
            logger.warning("%s is damaged: %s", path, error)
            return None
        return kept if digest_of(kept.transcript) == digest else None

    def signed(self) -> list[Signed]:
        """What is attested of the transcripts that are kept here."""
        names = (entry.name for entry in self.folder.iterdir()) if self.folder.is_dir() else ()
        kept = (self.find(bytes.fromhex(name)) for name in names if _NAME.fullmatch(name))
        return [one.signed for one in kept if one is not None]

    def path(self, digest: bytes) -> Path:
        return self.folder / digest.hex()

    def _make_room(self, newest: Path) -> None:
        files = [(entry.stat(), entry) for entry in self.folder.iterdir() if _NAME.fullmatch(entry.name)]
        excess = sum(status.st_size for status, _ in files) - self.quota_bytes
        for status, entry in sorted(files, key=lambda one: (one[0].st_mtime_ns, one[1])):
            if excess > 0 and entry != newest:
                entry.unlink(missing_ok=True)
                excess -= status.st_size


async def give(stream: Stream, fetch: Fetch, store: TranscriptStore) -> None:
    """Answer a peer that wants a transcript. Raises MeshError."""
    kept = await asyncio.to_thread(store.find, fetch.digest)
    await stream.send(to_record(Missing() if kept is None else Found()))
    if kept is not None:
        await stream.send(Record(RecordKind.DATA, kept.transcript))
    await stream.finish()


async def fetch_from(opener: Opener, nodes: Sequence[NodeId], digest: bytes) -> bytes | None:
    """The transcript, from the first of `nodes` that has it; None when none has."""
    for node in nodes:
        try:
            async with asyncio.timeout(FETCH_S):
                transcript = await _fetch(opener, node, digest)
        except (MeshError, TimeoutError) as error:
            logger.info("no transcript %s from node %s: %s", digest.hex()[:16], short(node), error)
            continue
        if transcript is not None:
            return transcript
    return None


async def _fetch(opener: Opener, node: NodeId, digest: bytes) -> bytes | None:
    stream = await opener.open(node, StreamHeader(PROTOCOL, "", int(1000 * FETCH_S)))
    try:
        await stream.send(to_record(Fetch(digest)))
        await stream.finish()
        if isinstance(read_found(await stream.receive(), node), Missing):
            return None
        record = await stream.receive()
        if record is None or record.kind is not RecordKind.DATA or len(record.payload) > MAX_TRANSCRIPT_BYTES:
            raise ProtocolError(f"expected a transcript of node {short(node)}, got something else")
        if digest_of(record.payload) != digest:
            raise ProtocolError(f"node {short(node)} sent another transcript than {digest.hex()[:16]}")
        return record.payload
    finally:
        stream.reset(ResetCode.CANCELLED)  # nothing to whoever is done
