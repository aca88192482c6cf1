"""Model files between nodes: says which files a model here is made of, and asks others.

The bytes go over `transport.blobs`, from a store that only lends: what this node has on its disk and has hashed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llm.models.message import (
    PROTOCOL,
    NoFiles,
    PeerFile,
    TheseFiles,
    WhichFiles,
    read_answer,
    read_question,
    to_record,
)
from llm.models.selection import FILE_NAME, identity_of
from transport.blob_message import BlobDigest
from transport.blob_store import BlobStore
from transport.errors import ProtocolError, ResetCode, TimedOut
from transport.identity import short
from transport.interface import NodeId, Stream, StreamHeader, Transport

QUESTION_S = 5.0
ANSWER_S = 15.0


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """The files of a model here. digests: the SHA-256 of each, in order.  beside: its projector, where it has one."""

    paths: tuple[Path, ...]
    digests: tuple[str, ...]
    sizes: tuple[int, ...]
    beside: LocalFiles | None = None

    @property
    def identity(self) -> str:
        """What offers call their digest."""
        return identity_of(self.digests)

    @property
    def told(self) -> tuple[PeerFile, ...]:
        """As others are told."""
        described = zip(self.paths, self.sizes, self.digests, strict=True)
        return tuple(PeerFile(path.name, size, bytes.fromhex(digest)) for path, size, digest in described)

    @property
    def blobs(self) -> tuple[tuple[BlobDigest, Path], ...]:
        """All of it, by what `blob/1` calls each."""
        own = tuple((_blob(digest), path) for digest, path in zip(self.digests, self.paths, strict=True))
        return own + (self.beside.blobs if self.beside is not None else ())


@dataclass(slots=True)
class Lending:
    """What this node gives to others, by the model's name here. store: lends it, whatever else it has."""

    store: BlobStore
    _models: dict[str, LocalFiles] = field(default_factory=dict)

    def add(self, name: str, files: LocalFiles) -> None:
        """Give these out from now on; but not under file names that no other node would take."""
        if all(FILE_NAME.match(path.name) for path in files.paths):
            self._models[name] = files
            self._lend(files)

    def remove(self, name: str) -> None:
        """Give that model's files out no longer, unless another one here has the same."""
        gone = self._models.pop(name, None)
        for digest, _ in gone.blobs if gone is not None else ():
            self.store.remove(digest)
        for files in self._models.values():
            self._lend(files)

    def _lend(self, files: LocalFiles) -> None:
        for digest, path in files.blobs:
            self.store.lend(digest, path)

    async def serve(self, stream: Stream) -> None:
        """Answer the one question of a `files/1` stream. Raises MeshError."""
        peer = stream.peer.node
        try:
            async with asyncio.timeout(QUESTION_S):
                question = read_question(await stream.receive(), peer)
        except TimeoutError as error:
            raise TimedOut(f"node {short(peer)} did not say which model within {QUESTION_S:g} s") from error
        await stream.send(to_record(_answer(question, self._models)))
        await stream.finish()


def _blob(digest: str) -> BlobDigest:
    return BlobDigest(bytes.fromhex(digest))


def _answer(question: WhichFiles, models: Mapping[str, LocalFiles]) -> TheseFiles | NoFiles:
    files = next((one for one in models.values() if one.identity == question.model), None)
    if files is None:
        return NoFiles()
    return TheseFiles(files.told, files.beside.told if files.beside is not None else ())


async def ask_files(transport: Transport, node: NodeId, identity: str) -> TheseFiles | None:
    """What `node` says the model with that SHA-256 is made of, checked against it; None when it has none.

    For its projector there is only the node's word.

    Raises MeshError.
    """
    stream = await transport.open(node, StreamHeader(PROTOCOL, ""))
    try:
        async with asyncio.timeout(ANSWER_S):
            await stream.send(to_record(WhichFiles(identity)))
            await stream.finish()
            answer = read_answer(await stream.receive(), node)
    except TimeoutError as error:
        stream.reset(ResetCode.DEADLINE)
        raise TimedOut(f"node {short(node)} did not say which files within {ANSWER_S:g} s") from error
    except BaseException:
        stream.reset(ResetCode.CANCELLED)
        raise
    if isinstance(answer, NoFiles):
        return None
    if identity_of([file.digest.hex() for file in answer.files]) != identity:
        raise ProtocolError(f"node {short(node)} names other files than those whose SHA-256 is {identity[:16]}")
    return answer
