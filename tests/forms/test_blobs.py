"""Blobs over the wire door, and those that a call names and a peer has."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from forms.blob_folder import BlobFolder
from forms.blob_names import MOST_NAMED, digests_in
from forms.blobs import FormBlobs
from forms.catalogue import Catalogue
from forms.circuits.generator.generate import Algorithm, Arithmetic, generate
from forms.errors import BadArgument, BeyondLimit, NotFound
from forms.evaluate import Evaluator
from forms.here import Here
from forms.installed import Fenced
from forms.request import Request
from forms.shape import MOST_READ_BYTES
from tests.forms.doors import Client, doors
from tests.forms.nodes import Throttled, request
from tests.forms.strangers import Weigher
from transport.blob_message import BlobDigest
from transport.blob_store import BlobStore, digest_of
from transport.blobs import Blobs
from transport.errors import StreamReset
from transport.interface import LinkState, NodeId
from transport.memory import MemoryNetwork

pytestmark = pytest.mark.live

QUOTA = 1 << 20
DATA = random.Random(6).randbytes(700_001)
DIGEST = hashlib.sha256(DATA).digest()


@dataclass
class Node:
    """One that has blobs. served: streams that its peers opened."""

    folder: Path
    store: BlobStore
    blobs: FormBlobs
    served: int = 0


@asynccontextmanager
async def nodes_with_blobs(root: Path, count: int = 1, quota: int = QUOTA) -> AsyncIterator[list[Node]]:
    """Nodes that know each other, each with a store of its own."""
    network = MemoryNetwork(1)
    nodes: list[Node] = []
    async with AsyncExitStack() as stack:
        transports = [
            await stack.enter_async_context(network.transport(NodeId(bytes([number]) * 32))) for number in range(count)
        ]
        group = await stack.enter_async_context(asyncio.TaskGroup())
        for transport in transports:
            others = [other for other in transports if other is not transport]
            store = BlobStore(root / f"node-{len(nodes)}", quota)
            blobs = await stack.enter_async_context(Blobs(transport, store))
            peers = tuple(other.node for other in others)
            nodes.append(Node(root / f"node-{len(nodes)}", store, FormBlobs(blobs, lambda peers=peers: peers)))  # type: ignore[misc]
            for other in others:
                transport.keep(other.node, other.addresses)

        async def serve(number: int) -> None:
            async for stream in transports[number].streams():
                nodes[number].served += 1
                with suppress(StreamReset):  # as `meshd.dispatch` fences it: who asked may have no room
                    await nodes[number].blobs.blobs.serve(stream)

        tasks = [group.create_task(serve(number)) for number in range(count)]
        async with asyncio.timeout(60):
            for transport in transports:
                while sum(link.state is LinkState.CONNECTED for link in transport.links()) < count - 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        try:
            yield nodes
        finally:
            for task in tasks:
                task.cancel()


def put(data: bytes) -> bytes:
    return struct.pack("<4sQ", b"BPUT", len(data)) + data


async def error_of(client: Client) -> tuple[int, str]:
    magic, code, length = struct.unpack("<4sII", await client.exactly(12))
    assert magic == b"BERR"
    return code, (await client.exactly(length)).decode()


async def test_a_blob_is_put_and_got_among_other_requests(tmp_path: Path) -> None:
    async with nodes_with_blobs(tmp_path) as (node,), doors(folder=node.folder, blobs=node.blobs) as open_doors:
        client = await open_doors.connect()
        await client.send(b"(ping)" + put(DATA) + put(b"") + b"BGET" + DIGEST + b"(ping)")
        assert await client.line() == b"(ok pong)\n"
        assert await client.exactly(36) == b"BOKD" + DIGEST
        assert await client.exactly(36) == b"BOKD" + hashlib.sha256(b"").digest()
        assert await client.exactly(12) == struct.pack("<4sQ", b"BBLB", len(DATA))
        assert await client.exactly(len(DATA)) == DATA
        assert await client.line() == b"(ok pong)\n"
        assert (node.folder / DIGEST.hex()).read_bytes() == DATA


async def test_a_blob_that_is_not_here_is_said_and_the_connection_goes_on(tmp_path: Path) -> None:
    async with nodes_with_blobs(tmp_path) as (node,), doors(blobs=node.blobs) as open_doors:
        client = await open_doors.connect()
        await client.send(b"BGET" + DIGEST + b"(ping)")
        assert await error_of(client) == (5, f"no blob {DIGEST.hex()} on this node")
        assert await client.line() == b"(ok pong)\n"


async def test_no_room_is_said_at_once_with_what_is_free_and_the_connection_goes_on(tmp_path: Path) -> None:
    async with nodes_with_blobs(tmp_path, quota=1000) as (node,), doors(blobs=node.blobs) as open_doors:
        client = await open_doors.connect()
        node.store.add(b"k" * 400)
        await client.send(put(b"x" * 601)[:100])
        code, said = await error_of(client)
        assert code == 2
        assert "601" in said and "600 of 1000 are free" in said
        await client.send(put(b"x" * 601)[100:] + put(b"y" * 600) + b"(ping)")
        assert await client.exactly(36) == b"BOKD" + hashlib.sha256(b"y" * 600).digest()
        assert await client.line() == b"(ok pong)\n"


@pytest.mark.parametrize("length", [(1 << 24) + 100, 1 << 40, (1 << 64) - 1])
async def test_a_blob_beyond_the_limit_is_condemned_by_its_head(tmp_path: Path, length: int) -> None:
    async with nodes_with_blobs(tmp_path) as (node,), doors(blobs=node.blobs) as open_doors:
        client = await open_doors.connect()
        await client.send(struct.pack("<4sQ", b"BPUT", length))
        assert (await client.rest()).startswith(b"BERR\x02\x00\x00\x00")
        assert node.store.used_bytes == 0


async def test_a_client_that_leaves_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    async with nodes_with_blobs(tmp_path) as (node,), doors(blobs=node.blobs) as open_doors:
        client = await open_doors.connect()
        await client.send(put(DATA)[:-1])
        client.writer.write_eof()
        assert (await client.rest()).startswith(b"BERR\x01\x00\x00\x00")
        assert node.store.used_bytes == 0
        assert [path for path in node.folder.rglob("*") if path.is_file()] == []


async def test_a_disk_that_fails_is_said_and_the_connection_goes_on(tmp_path: Path) -> None:
    async with nodes_with_blobs(tmp_path) as (node,), doors(blobs=node.blobs) as open_doors:
        (node.folder / "partial").rmdir()
        client = await open_doors.connect()
        await client.send(put(DATA) + b"(ping)")
        code, said = await error_of(client)
        assert code == 8 and "the disk failed" in said
        assert await client.line() == b"(ok pong)\n"
        assert node.store.used_bytes == 0


async def test_blobs_want_the_key_too(tmp_path: Path) -> None:
    async with nodes_with_blobs(tmp_path) as (node,), doors(blobs=node.blobs, keys=("k",)) as open_doors:
        for sent in (put(b"x"), b"BGET" + DIGEST):
            client = await open_doors.connect()
            await client.send(sent)
            assert (await client.rest()).startswith(b"BERR\x03\x00\x00\x00")
        client = await open_doors.connect()
        assert await client.ask('(auth "k")') == "(ok auth)"
        await client.send(put(b"x"))
        assert (await client.exactly(36)).startswith(b"BOKD")


async def test_memory_does_not_grow_with_the_blob(tmp_path: Path) -> None:
    size, piece = 96 << 20, bytes(1 << 20)
    me = psutil.Process()
    async with (
        nodes_with_blobs(tmp_path, quota=1 << 30) as (node,),
        doors(blobs=node.blobs, limit_bytes=1 << 30) as open_doors,
    ):
        client = await open_doors.connect()
        before, most = me.memory_info().rss, 0
        await client.send(struct.pack("<4sQ", b"BPUT", size))
        for _ in range(size // len(piece)):
            await client.send(piece)
            most = max(most, me.memory_info().rss)
        answer = await client.exactly(36)
        await client.send(b"BGET" + answer[4:])
        assert await client.exactly(12) == struct.pack("<4sQ", b"BBLB", size)
        for _ in range(size // len(piece)):
            assert await client.exactly(len(piece)) == piece
            most = max(most, me.memory_info().rss)
        assert most - before < size // 3


# Pulled from a peer


CIRCUIT = generate(Arithmetic.ADDER, 5, Algorithm())
NAME = digest_of(CIRCUIT).hex()
CALL = f'(cuda-sim-ops-bin "{NAME}" 1 (check adder))'


async def test_a_circuit_that_is_not_here_comes_from_a_peer_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "meshd.transport")
    async with (
        nodes_with_blobs(tmp_path, 3) as (here, _, there),
        doors(folder=here.folder, blobs=here.blobs) as open_doors,
    ):
        there.store.add(CIRCUIT)
        clients = [await open_doors.connect() for _ in range(4)]
        said = await asyncio.gather(*(client.ask(CALL) for client in clients))
        assert len(set(said)) == 1
        assert said[0].endswith("(clean #t))")
        assert there.served == 2, "asked whether it has it, and pulled from: once for all four"
        assert [path.name for path in (here.folder / "copies").iterdir()] == [NAME]
        assert caplog.text.count(f"a copy of blob {NAME[:16]} came from a peer") == 1
        axis = await clients[0].ask(f'(cuda-sim-axis \'("{NAME}" "{NAME}") 64 (check adder))')
        assert axis.count("(clean #t)") == 2
        assert there.served == 2


async def test_a_circuit_that_nobody_has_is_not_found(tmp_path: Path) -> None:
    async with (
        nodes_with_blobs(tmp_path, 2) as (here, _),
        doors(folder=here.folder, blobs=here.blobs) as open_doors,
    ):
        client = await open_doors.connect()
        assert (await client.ask(CALL)).startswith('(error (not-found "none of 1 nodes has blob')
        assert (await client.ask(f"(bend {CALL})")).startswith('(error (not-found "none of 1 nodes has blob')
        assert await client.ask("(ping)") == "(ok pong)"


async def test_a_circuit_larger_than_the_quota_is_said(tmp_path: Path) -> None:
    async with nodes_with_blobs(tmp_path, 2) as (here, there):
        there.store.add(CIRCUIT)
        here.store.quota_bytes = 10
        async with doors(folder=here.folder, blobs=here.blobs) as open_doors:
            client = await open_doors.connect()
            assert (await client.ask(CALL)).startswith('(error (limit "a blob wants ')


async def test_what_has_not_come_whole_is_no_circuit(tmp_path: Path) -> None:
    async with nodes_with_blobs(tmp_path) as (here,), doors(folder=here.folder, blobs=here.blobs) as open_doors:
        (here.folder / "partial" / NAME).write_bytes(CIRCUIT)
        client = await open_doors.connect()
        for name in (f"partial/{NAME}", f"copies/../partial/{NAME}"):
            assert (await client.ask(f'(cuda-sim-ops-bin "{name}" 1)')).startswith("(error (not-found ")


def weighing(node: Node) -> Here:
    """A form of others on that node, as an agent has it and as its worker has it."""
    catalogues = []
    for _ in range(2):
        form = Fenced(Weigher())
        form.use_blobs(BlobFolder(node.folder).blob)
        catalogues.append(Catalogue([form]))
    return Here(catalogues[0], Throttled(Evaluator(catalogues[1])), bring=node.blobs.bring)


async def test_what_a_form_of_others_names_comes_from_a_peer_in_text_and_in_frames(tmp_path: Path) -> None:
    async with nodes_with_blobs(tmp_path, 2) as (here, there):
        digests = [there.store.add(bytes(length)) for length in (3, 70_000)]
        computing = weighing(here)
        text = await computing.compute(request(f'(weigh (quote ("{digests[0].hex()}")))'), 60)
        assert text.reply == b'(ok ("0000000000000003"))\n'
        frame = struct.pack("<4sI", b"BWEI", 2) + b"".join(digests)
        framed = await computing.compute(Request(False, frame), 60)
        assert framed.reply == struct.pack("<4sI", b"BWEO", 2) + struct.pack(">QQ", 3, 70_000)
        long = f"(weigh '({' '.join([chr(34) + digests[0].hex() + chr(34)] * 1001)}))"
        assert (await computing.compute(request(long), 60)).reply.count(b"0000000000000003") == 1001
        assert there.served == 4, "each was asked for and pulled once"


async def test_a_call_of_others_that_names_no_digest_or_one_of_nobody_is_told(tmp_path: Path) -> None:
    async with nodes_with_blobs(tmp_path, 2) as (here, there):
        computing = weighing(here)
        with pytest.raises(BadArgument, match="expected the SHA-256 of a blob"):
            await computing.compute(request("""(weigh '("00"))"""), 60)
        with pytest.raises(NotFound, match="none of 1 nodes has blob"):
            await computing.compute(request(f"""(weigh '("{DIGEST.hex()}"))"""), 60)
        many = " ".join(f'"{number:064x}"' for number in range(MOST_NAMED + 1))
        with pytest.raises(BadArgument, match="at most 1024 blobs"):
            await computing.compute(request(f"(weigh '({many}))"), 60)
        with pytest.raises(BeyondLimit, match="in text that names blobs"):
            await computing.compute(request(f"(weigh '({' ' * MOST_READ_BYTES}))"), 60)
        assert there.served == 1


async def test_a_digest_is_told_apart_from_a_path() -> None:
    assert digests_in(CALL.encode() * 2) == (BlobDigest(bytes.fromhex(NAME)),)
    assert digests_in(b'(cuda-sim-ops-bin "adder" 1)') == ()
    assert digests_in(b'(f "' + NAME.upper().encode() + b'" "0' + NAME.encode() + b'")') == ()


async def test_bringing_what_is_here_asks_nobody(tmp_path: Path) -> None:
    async with nodes_with_blobs(tmp_path, 2) as (here, there):
        here.store.add(CIRCUIT)
        await here.blobs.bring([digest_of(CIRCUIT)])
        with pytest.raises(NotFound):
            await here.blobs.bring([digest_of(CIRCUIT), digest_of(b"other")])
        assert there.served == 1
