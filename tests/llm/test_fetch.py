"""Files come from peers or from the hub, go on after interruptions, and count only with their SHA-256.

The hub is a small one on loopback (`tests.llm.fake_hub`), asked by the real huggingface_hub.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llm.models import hub
from llm.models.fetch import Fetcher, FetchFailed, WantedFile, Wish
from llm.models.selection import HubSpec, choose
from llm.models.transfer import Meter
from tests.llm.fake_hub import COMMIT, FakeHub, fake_hub
from tests.llm.views import node_id
from transport.blob_message import BlobDigest
from transport.blob_store import BlobStore
from transport.blobs import Blobs
from transport.interface import LinkState, NodeId, Role
from transport.memory import MemoryNetwork, MemoryTransport

pytestmark = pytest.mark.live

SIZE = 5 << 20
CONTENT = random.Random(5).randbytes(SIZE)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
A, B = node_id(1), node_id(2)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub(o__r={"m-Q4_0.gguf": CONTENT, "README.md": b"#"}) as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        yield found


def fetcher(folder: Path, transport: MemoryTransport | None = None) -> Fetcher:
    return Fetcher(transport or MemoryNetwork().transport(A, Role.MEMBER), folder)


async def wish(*peers: NodeId) -> Wish:
    listing = await asyncio.to_thread(hub.list_files, "o/r")
    files = choose(HubSpec("o/r", ""), listing.files)
    return Wish(tuple(WantedFile(one.file_name, one.size, one.sha256, one) for one in files), peers, listing)


async def until_some_is_here(meter: Meter) -> None:
    async with asyncio.timeout(60):
        while meter.done_bytes < 2 << 20:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


async def test_a_listing_says_what_there_is(site: FakeHub) -> None:
    listing = await asyncio.to_thread(hub.list_files, "o/r")
    assert (listing.commit, [(one.path, one.size) for one in listing.files]) == (
        COMMIT,
        [("m-Q4_0.gguf", SIZE), ("README.md", 1)],
    )
    assert listing.files[0].sha256 == DIGEST


async def test_a_file_is_brought_and_gets_its_name_whole(site: FakeHub, tmp_path: Path) -> None:
    meter = Meter()
    (path,) = await fetcher(tmp_path).fetch(await wish(), meter)
    assert path == tmp_path / DIGEST[:16] / "m-Q4_0.gguf"
    assert path.read_bytes() == CONTENT
    assert (meter.done_bytes, meter.size_bytes, meter.source) == (SIZE, SIZE, "the hub")


async def test_the_user_s_token_is_told_to_the_hub_and_to_no_other_host(
    site: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    await fetcher(tmp_path).fetch(await wish(), Meter())
    told = {path.split("/")[1]: authorization for path, authorization in site.asked}
    assert told == {"api": "Bearer hf_secret", "o": "Bearer hf_secret", "cdn": ""}


async def test_what_is_here_is_not_asked_for_again(site: FakeHub, tmp_path: Path) -> None:
    wanted = await wish()
    await fetcher(tmp_path).fetch(wanted, Meter())
    sent = site.sent_bytes
    assert (await fetcher(tmp_path).fetch(wanted, Meter()))[0].read_bytes() == CONTENT
    assert site.sent_bytes == sent


async def test_a_cancelled_download_leaves_no_file_and_goes_on_from_there(site: FakeHub, tmp_path: Path) -> None:
    site.hold(after_bytes=3 << 20)
    wanted, meter, bringing = await wish(), Meter(), fetcher(tmp_path)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bringing.fetch(wanted, meter))
        await until_some_is_here(meter)
        task.cancel()
    assert [path.name for path in files_in(tmp_path)] == [DIGEST]
    site.break_after = 3 << 20
    site.go_on()
    async with asyncio.timeout(60):
        while bringing._busy:  # noqa: ASYNC110 - the thread ends by itself
            await asyncio.sleep(0.01)
    site.break_after, before = None, site.sent_bytes
    (path,) = await bringing.fetch(wanted, Meter())
    assert path.read_bytes() == CONTENT
    assert site.sent_bytes - before < SIZE - (1 << 20)


async def test_a_line_that_breaks_is_picked_up_within_one_download(site: FakeHub, tmp_path: Path) -> None:
    site.break_after = 3 << 20
    (path,) = await fetcher(tmp_path).fetch(await wish(), Meter())
    assert path.read_bytes() == CONTENT


async def test_other_bytes_than_the_hub_promised_are_deleted(site: FakeHub, tmp_path: Path) -> None:
    site.claims["m-Q4_0.gguf"] = "ab" * 32
    with pytest.raises(FetchFailed, match=r"not m-Q4_0\.gguf.*deleted"):
        await fetcher(tmp_path).fetch(await wish(), Meter())
    assert files_in(tmp_path) == []


async def test_every_part_of_a_split_model_is_brought_side_by_side(site: FakeHub, tmp_path: Path) -> None:
    names = [f"d/big-Q8_0-{number:05d}-of-00002.gguf" for number in (1, 2)]
    site.repos["o/r"] = {name: name.encode() * 1000 for name in names}
    meter = Meter()
    paths = await fetcher(tmp_path).fetch(await wish(), meter)
    assert [path.name for path in paths] == [name[2:] for name in names]
    assert {path.parent for path in paths} == {paths[0].parent}
    assert [path.read_bytes() for path in paths] == list(site.repos["o/r"].values())
    assert meter.done_bytes == meter.size_bytes == sum(map(len, site.repos["o/r"].values()))


async def test_a_full_disk_is_told_with_the_numbers_before_anything_comes(site: FakeHub, tmp_path: Path) -> None:
    small = fetcher(tmp_path)
    small.disk_bytes = lambda folder: 2_000_000
    with pytest.raises(FetchFailed, match=r"0\.005 GB are still to come, .* has 0\.002 GB free; 0\.003 GB more"):
        await small.fetch(await wish(), Meter())
    assert site.sent_bytes == 0


async def test_a_repository_that_is_not_there_is_no_weather(site: FakeHub) -> None:
    with pytest.raises(hub.HubFailed, match="no repository o/none") as caught:
        await asyncio.to_thread(hub.list_files, "o/none")
    assert not caught.value.is_weather


async def test_a_hub_that_is_away_is_weather(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(hub.HubFailed, match="cannot be reached") as caught:
        await asyncio.to_thread(hub.list_files, "o/none")
    assert caught.value.is_weather


@asynccontextmanager
async def beside_a_peer(lent: Path | None, folder: Path) -> AsyncIterator[MemoryTransport]:
    """A node that is linked to `B`, which gives out that file."""
    network = MemoryNetwork()
    here, there = network.transport(A, Role.MEMBER), network.transport(B, Role.MEMBER)
    store = BlobStore(folder / "lent", 0)
    if lent is not None:
        store.lend(BlobDigest(bytes.fromhex(DIGEST)), lent)
    async with here, there, Blobs(there, store) as blobs, asyncio.TaskGroup() as group:
        here.keep(B, there.addresses)
        there.keep(A, here.addresses)
        await until_connected(here)
        serving = group.create_task(serve(there, blobs))
        yield here
        serving.cancel()


async def test_a_peer_is_asked_before_the_hub_and_goes_on_with_what_the_hub_sent(site: FakeHub, tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    source.write_bytes(CONTENT)
    partial = tmp_path / "models" / "arriving" / "partial"
    partial.mkdir(parents=True)
    (partial / DIGEST).write_bytes(CONTENT[: SIZE // 2])
    meter = Meter()
    async with beside_a_peer(source, tmp_path) as here:
        (path,) = await fetcher(tmp_path / "models", here).fetch(await wish(B), meter)
    assert path.read_bytes() == CONTENT
    assert (meter.source, site.sent_bytes) == ("the mesh", 0)


async def test_the_hub_steps_in_where_no_peer_gives_it(site: FakeHub, tmp_path: Path) -> None:
    meter = Meter()
    async with beside_a_peer(None, tmp_path) as here:
        (path,) = await fetcher(tmp_path / "models", here).fetch(await wish(B), meter)
    assert path.read_bytes() == CONTENT
    assert meter.source == "the hub"


async def until_connected(transport: MemoryTransport) -> None:
    async with asyncio.timeout(60):
        while not any(link.state is LinkState.CONNECTED for link in transport.links()):
            await transport.board.changed()


async def serve(transport: MemoryTransport, blobs: Blobs) -> None:
    async with asyncio.TaskGroup() as group:
        async for stream in transport.streams():
            group.create_task(blobs.serve(stream))


def files_in(folder: Path) -> list[Path]:
    """Those that hold something."""
    return [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
