"""Processes of their own that give and fetch one blob, to be killed on the way or put on other hosts.

    python -m tests.transport.blob_fetcher serve BIND FILE            prints the port it listens on
    python -m tests.transport.blob_fetcher fetch BIND SERVER DIRECTORY DIGEST

The second prints how many bytes are here whenever some more are, and at the end over which carrier they came. Addresses
as `127.0.0.1:0`; the two are the owner and a member of one mesh, which both derive from the same seed.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from pathlib import Path

from tests.transport.quic_mesh import is_connected, live_mesh, start
from transport.address import parse_address
from transport.blob_message import BlobDigest
from transport.blob_store import BlobStore
from transport.blobs import Blobs

QUOTA_BYTES = 1 << 30


async def serve(bind: str, file: str) -> None:
    store = lending(Path(file))
    async with (
        start(live_mesh().owner_now(), parse_address(bind)) as transport,
        Blobs(transport, store) as blobs,
        asyncio.TaskGroup() as group,
    ):
        print(transport.addresses[0].port, flush=True)
        async for stream in transport.streams():
            group.create_task(blobs.serve(stream))


def lending(path: Path) -> BlobStore:
    with path.open("rb") as opened:
        digest = BlobDigest(hashlib.file_digest(opened, "sha256").digest())
    store = BlobStore(path.with_name("lent"), 0)
    store.lend(digest, path)
    return store


async def fetch(bind: str, server: str, directory: str, digest: str) -> None:
    mesh = live_mesh()
    async with (
        start(mesh.member_now(), parse_address(bind)) as transport,
        Blobs(transport, BlobStore(Path(directory), QUOTA_BYTES)) as blobs,
    ):
        transport.keep(mesh.owner.node, (parse_address(server),))
        async with asyncio.timeout(60):
            while not is_connected(transport, mesh.owner.node):  # noqa: ASYNC110 - its events are nobody's here
                await asyncio.sleep(0.01)
        wanted = BlobDigest(bytes.fromhex(digest))
        await blobs.fetch(wanted, [mesh.owner.node], lambda done_bytes, size: print(done_bytes, flush=True))
        print(transport.links()[0].carrier, flush=True)


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    asyncio.run(serve(*arguments) if what == "serve" else fetch(*arguments))
