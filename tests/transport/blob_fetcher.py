"""A process of its own that fetches one blob, to be killed on the way.

Run as `python -m tests.transport.blob_fetcher PORT DIGEST DIRECTORY`. Prints how many bytes are here
whenever some more are, and ends when all are.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.transport.quic_mesh import is_connected, live_mesh, start
from transport.blob_store import BlobDigest, BlobStore
from transport.blobs import Blobs
from transport.interface import Address

QUOTA_BYTES = 1 << 30


async def fetch(port: int, digest: BlobDigest, directory: Path) -> None:
    mesh = live_mesh()
    async with start(mesh.member_now()) as transport, Blobs(transport, BlobStore(directory, QUOTA_BYTES)) as blobs:
        transport.keep(mesh.owner.node, (Address("127.0.0.1", port),))
        async with asyncio.timeout(20):
            while not is_connected(transport, mesh.owner.node):  # noqa: ASYNC110 - its events are nobody's here
                await asyncio.sleep(0.01)
        await blobs.fetch(digest, [mesh.owner.node], lambda done_bytes, size: print(done_bytes, flush=True))
        print(transport.links()[0].carrier, flush=True)


if __name__ == "__main__":
    asyncio.run(fetch(int(sys.argv[1]), BlobDigest(bytes.fromhex(sys.argv[2])), Path(sys.argv[3])))
