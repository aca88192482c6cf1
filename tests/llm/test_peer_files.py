"""Nodes tell each other which files a model is made of, and believe only what agrees with its SHA-256."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from llm.models.message import NoFiles, PeerFile, TheseFiles, read_answer, to_record
from llm.models.peers import Lending, LocalFiles, ask_files
from llm.models.selection import identity_of
from tests.llm.views import node_id
from transport.blob_message import BlobDigest
from transport.blob_store import BlobStore, NoRoom
from transport.blobs import Blobs
from transport.errors import ProtocolError
from transport.interface import LinkState, Record, RecordKind, Role, Stream
from transport.memory import MemoryNetwork, MemoryTransport

A, B = node_id(1), node_id(2)


def local(folder: Path, *names: str, content: bytes = b"x") -> LocalFiles:
    paths = tuple(folder / name for name in names)
    for path in paths:
        path.write_bytes(content + path.name[-12:].encode())
    digests = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    return LocalFiles(paths, digests, tuple(path.stat().st_size for path in paths))


@asynccontextmanager
async def beside(serve: Callable[[Stream], object]) -> AsyncIterator[MemoryTransport]:
    """A node linked to `B`, which serves every stream so."""
    network = MemoryNetwork()
    here, there = network.transport(A, Role.MEMBER), network.transport(B, Role.MEMBER)
    async with here, there, linked(here, there, serve):
        yield here


@asynccontextmanager
async def linked(
    here: MemoryTransport, there: MemoryTransport, serve: Callable[[Stream], object]
) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        here.keep(B, there.addresses)
        there.keep(A, here.addresses)
        async with asyncio.timeout(60):
            while not any(link.state is LinkState.CONNECTED for link in here.links()):
                await here.board.changed()
        serving = group.create_task(_run(there, serve))
        yield
        serving.cancel()


async def _run(transport: MemoryTransport, serve) -> None:  # type: ignore[no-untyped-def]
    async for stream in transport.streams():
        await serve(stream)


def lending(folder: Path) -> Lending:
    return Lending(BlobStore(folder / "lent", 0))


async def test_a_model_s_files_are_told_in_order(tmp_path: Path) -> None:
    lends = lending(tmp_path)
    files = local(tmp_path, "m-00001-of-00002.gguf", "m-00002-of-00002.gguf")
    lends.add("m", files)
    async with beside(lends.serve) as here:
        told = await ask_files(here, B, files.identity)
    assert told is not None
    assert [file.name for file in told.files] == [path.name for path in files.paths]
    assert [file.digest.hex() for file in told.files] == list(files.digests)
    assert lends.store.path(BlobDigest(told.files[1].digest)) == files.paths[1]
    assert told.beside == ()


async def test_a_model_s_projector_is_told_and_lent_beside_it(tmp_path: Path) -> None:
    lends = lending(tmp_path)
    files = replace(local(tmp_path, "m.gguf"), beside=local(tmp_path, "mmproj-F16.gguf", content=b"sees"))
    lends.add("m", files)
    async with beside(lends.serve) as here:
        told = await ask_files(here, B, files.identity)
    assert told is not None
    (projector,) = told.beside
    assert (projector.name, [file.name for file in told.files]) == ("mmproj-F16.gguf", ["m.gguf"])
    digest = BlobDigest(projector.digest)
    assert lends.store.path(digest) == tmp_path / "mmproj-F16.gguf"
    lends.remove("m")
    assert lends.store.path(digest) is None


@pytest.mark.parametrize("name", ["m2.gguf", "../mmproj.gguf", "mmproj.sh"])
def test_what_is_no_projector_beside_a_model_is_malformed(name: str) -> None:
    one, other = PeerFile("m.gguf", 1, b"\1" * 32), PeerFile(name, 1, b"\2" * 32)
    with pytest.raises(ProtocolError):
        read_answer(to_record(TheseFiles((one,), (other,))), B)
    with pytest.raises(ProtocolError):
        read_answer(to_record(TheseFiles((one,), (PeerFile("mmproj.gguf", 1, b"\2" * 32),) * 2)), B)


async def test_a_model_that_is_not_there_has_none(tmp_path: Path) -> None:
    async with beside(lending(tmp_path).serve) as here:
        assert await ask_files(here, B, "ab" * 32) is None


async def test_files_that_do_not_agree_with_the_sha256_are_the_peer_s_fault() -> None:
    async def lie(stream: Stream) -> None:
        await stream.receive()
        await stream.send(to_record(TheseFiles((PeerFile("m.gguf", 5, b"\1" * 32),))))
        await stream.finish()

    async with beside(lie) as here:
        with pytest.raises(ProtocolError, match="other files"):
            await ask_files(here, B, "ab" * 32)


@pytest.mark.parametrize(
    "names",
    [
        ("../m.gguf",),
        ("/etc/m.gguf",),
        (".m.gguf",),
        ("m.sh",),
        ("a.gguf", "b.gguf"),
        ("m-00001-of-00002.gguf",),
        ("m-00002-of-00002.gguf", "m-00001-of-00002.gguf"),
        (),
    ],
)
def test_names_that_are_no_whole_model_or_lead_elsewhere_are_malformed(names: tuple[str, ...]) -> None:
    record = to_record(TheseFiles(tuple(PeerFile(name, 1, b"\1" * 32) for name in names)))
    with pytest.raises(ProtocolError):
        read_answer(record, B)
    assert read_answer(to_record(NoFiles()), B) == NoFiles()
    with pytest.raises(ProtocolError):
        read_answer(Record(RecordKind.DATA, record.payload), B)


def test_what_two_models_share_is_lent_until_both_are_gone(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    lends = lending(tmp_path)
    one, two = local(tmp_path, "same.gguf"), local(tmp_path / "two", "same.gguf")
    assert one.identity == two.identity == identity_of(one.digests)
    digest = BlobDigest(bytes.fromhex(one.digests[0]))
    lends.add("one", one)
    lends.add("two", two)
    lends.remove("two")
    assert lends.store.path(digest) == one.paths[0]
    lends.remove("one")
    assert lends.store.path(digest) is None


async def test_what_lends_takes_nothing(tmp_path: Path) -> None:
    """A member cannot fill another's disk through `blob/1`."""
    mine = BlobStore(tmp_path / "mine", 1 << 20)
    digest = mine.add(b"unasked for")
    network = MemoryNetwork()
    here, there = network.transport(A, Role.MEMBER), network.transport(B, Role.MEMBER)
    lent, blobs = Blobs(there, lending(tmp_path).store), Blobs(here, mine)
    async with here, there, lent, blobs, linked(here, there, lent.serve):
        with pytest.raises(NoRoom):
            await blobs.push(B, digest)
    assert not [path for path in (tmp_path / "lent").rglob("*") if path.is_file()]


def test_a_file_name_that_nobody_would_take_is_not_lent(tmp_path: Path) -> None:
    lends = lending(tmp_path)
    files = local(tmp_path, "ümlaut.gguf")
    lends.add("m", files)
    assert lends.store.path(BlobDigest(bytes.fromhex(files.digests[0]))) is None
