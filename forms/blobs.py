"""The blobs of a node as its forms and its doors use them: put, got in pieces, pulled from a peer that has them.

Where they lie and how they move between nodes is `transport`'s; here its failures become those that a caller is told.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from forms.errors import BeyondLimit, FormFailed, NotFound, WorkerLost
from transport.blob_disk import StoreFailed
from transport.blob_message import BlobDigest
from transport.blob_store import Arriving, NoRoom
from transport.blobs import Blobs, NoSuchBlob, Progress
from transport.errors import MeshError
from transport.interface import Link, LinkState, NodeId
from transport.local_blobs import Incoming, LocalBlobs, Outgoing

logger = logging.getLogger("meshd.forms")

TOLD_EVERY_BYTES = 64 << 20


def nearest_first(links: Iterable[Link]) -> tuple[NodeId, ...]:
    """The nodes that are connected, by round trip; one whose round trip is not known comes last."""
    connected = [link for link in links if link.state is LinkState.CONNECTED]
    return tuple(link.node for link in sorted(connected, key=lambda link: (link.rtt_ms is None, link.rtt_ms or 0.0)))


@dataclass(frozen=True, slots=True)
class FormBlobs:
    """blobs: those of this node.  peers: nodes that may have what is not here."""

    blobs: Blobs
    peers: Callable[[], Sequence[NodeId]]

    @property
    def local(self) -> LocalBlobs:
        """Those that are here."""
        return self.blobs.local

    @asynccontextmanager
    async def taking_in(self, size: int) -> AsyncIterator[Incoming]:
        """A blob that comes now. Raises BeyondLimit, which says how much is free, and FormFailed for the disk."""
        with _told():
            async with self.local.taking_in(size) as incoming:
                yield incoming

    @asynccontextmanager
    async def giving_out(self, digest: BlobDigest) -> AsyncIterator[Outgoing]:
        """A blob that is here. Raises NotFound, and FormFailed for the disk."""
        with _told():
            async with self.local.giving_out(digest) as outgoing:
                if outgoing is None:
                    raise NotFound(f"no blob {digest.hex()} on this node")
                yield outgoing

    async def bring(self, digests: Sequence[BlobDigest]) -> None:
        """Pull what is not here from a peer, once for all who wait for it. Raises NotFound, BeyondLimit, WorkerLost."""
        for digest in digests:
            with _told():
                if await self.local.path(digest) is None:
                    await self.blobs.copy(digest, self.peers(), _telling(digest))


@contextmanager
def _told() -> Iterator[None]:
    """Whatever goes wrong with a blob, as a caller is told."""
    try:
        yield
    except NoRoom as error:
        raise BeyondLimit(str(error)) from error
    except NoSuchBlob as error:
        raise NotFound(str(error)) from error
    except StoreFailed as error:
        raise FormFailed(str(error)) from error
    except (Arriving, MeshError) as error:
        raise WorkerLost(f"the blob did not come: {error}") from error


def _telling(digest: BlobDigest) -> Progress:
    """Says in the log how far a large blob is."""
    told_bytes = 0

    def tell(done_bytes: int, size: int) -> None:
        nonlocal told_bytes
        if done_bytes - told_bytes >= TOLD_EVERY_BYTES:
            told_bytes = done_bytes
            logger.info("blob %s: %.0f of %.0f MB are here", digest.hex()[:16], done_bytes / 1e6, size / 1e6)

    return tell
