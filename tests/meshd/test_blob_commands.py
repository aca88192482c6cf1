"""What the control door answers about blobs that are not there, too large, or misnamed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from forms.blobs import FormBlobs, nearest_first
from meshd.blob_commands import BlobCommands
from meshd.control import CommandFailed
from transport.blob_store import BlobStore
from transport.blobs import Blobs
from transport.interface import Link, LinkState, NodeId, Role
from transport.memory import MemoryNetwork


@asynccontextmanager
async def commands(folder: Path, quota: int = 1000) -> AsyncIterator[BlobCommands]:
    async with (
        MemoryNetwork().transport(NodeId(bytes(32))) as transport,
        Blobs(transport, BlobStore(folder / "blobs", quota)) as blobs,
    ):
        yield BlobCommands(FormBlobs(blobs, tuple))


async def test_a_file_is_put_found_listed_and_removed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"bytes")
    async with commands(tmp_path) as asked:
        table = asked.table()
        put = await table["blob_put"]({"path": str(tmp_path / "file")})
        found = await table["blob_find"]({"digest": put["digest"]})
        assert Path(found["path"]).name == put["digest"]
        listed = await table["blobs"]({})
        assert listed["blobs"] == [{"digest": put["digest"], "size_bytes": 5, "is_copy": False}]
        assert (listed["used_bytes"], listed["quota_bytes"]) == (5, 1000)
        await table["blob_remove"]({"digest": put["digest"]})
        assert (await table["blobs"]({}))["blobs"] == []


async def test_what_cannot_be_done_says_why(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(1001))
    digest = "ab" * 32
    async with commands(tmp_path) as asked:
        for command, arguments, why in (
            ("blob_put", {"path": str(tmp_path / "missing")}, "No such file"),
            ("blob_put", {"path": str(tmp_path / "large")}, "1000 of 1000 are free"),
            ("blob_put", {"path": 5}, "expected path as text"),
            ("blob_find", {"digest": digest}, "none of 0 nodes"),
            ("blob_find", {"digest": "../x"}, "64 lower-case hex digits"),
            ("blob_remove", {"digest": digest}, "no blob"),
        ):
            with pytest.raises(CommandFailed, match=why):
                await asked.table()[command](arguments)


def link(number: int, rtt_ms: float | None, state: LinkState = LinkState.CONNECTED) -> Link:
    return Link(NodeId(bytes([number]) * 32), Role.MEMBER, "", state, None, "memory", rtt_ms, 0, 0)


def test_the_nearest_is_asked_first_and_who_is_away_not_at_all() -> None:
    links = (link(1, None), link(2, 5.0), link(3, 1.0), link(4, 0.1, LinkState.LOST))
    assert [node[0] for node in nearest_first(links)] == [3, 2, 1]
