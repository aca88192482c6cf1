"""Which files a wish means and who has them; the hub is `tests.llm.fake_hub`, peers are nodes of a view."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gossip.view import NodeView
from llm.digest import DigestCache
from llm.models.catalogue import SPECS
from llm.models.fetch import FetchFailed
from llm.models.message import PeerFile, TheseFiles, to_record
from llm.offer import Offer
from meshd.model_finder import ModelFinder, named_after
from tests.llm.fake_hub import FakeHub, fake_hub
from tests.llm.mesh import Views
from tests.llm.views import FILE_A, node, node_id, offer
from transport.interface import LinkState, Role, Stream
from transport.memory import MemoryNetwork, MemoryTransport

pytestmark = pytest.mark.live

CONTENT = b"GGUF" + bytes(1000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub(o__r={"m-Q4_0.gguf": CONTENT, "m-Q8_0.gguf": b"other"}) as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        yield found


def of_files(name: str = "m-Q4_0", digest: str = DIGEST, state: str = "ready") -> Offer:
    return msgspec.structs.replace(offer(name, fingerprint=FILE_A, digest=digest, state=state), kind="llama_server")


def finder(tmp_path: Path, *nodes: NodeView, transport: MemoryTransport | None = None) -> ModelFinder:
    views = Views()
    views.show(node(1), *nodes)
    here = transport or MemoryNetwork().transport(node_id(1), Role.MEMBER)
    return ModelFinder(here, views, DigestCache(tmp_path / "digests.json"))


def quiet(words: str) -> None:
    """Nobody listens."""


async def test_a_spec_means_its_file_and_the_nodes_that_offer_it_nearest_first(site: FakeHub, tmp_path: Path) -> None:
    far, near = node(2, [of_files()], rtt_ms=40.0), node(3, [of_files("alias")], rtt_ms=2.0)
    others = (node(4, [of_files(digest="ab" * 32)]), node(5, [of_files()], linked=False))
    found = await finder(tmp_path, far, near, *others).find("hf:o/r:Q4_0", quiet)
    assert [(file.name, file.size, file.sha256) for file in found.wish.files] == [("m-Q4_0.gguf", len(CONTENT), DIGEST)]
    assert found.wish.peers == (near.node, far.node)
    assert (found.name, found.cached) == ("m-Q4_0", ())


async def test_a_projector_is_part_of_the_wish_and_not_of_what_the_model_is(site: FakeHub, tmp_path: Path) -> None:
    site.repos["o/r"]["mmproj-F16.gguf"] = b"eyes"
    found = await finder(tmp_path, node(2, [of_files()])).find("hf:o/r:Q4_0", quiet)
    assert [file.name for file in found.wish.files] == ["m-Q4_0.gguf"]
    assert [(file.name, file.size) for file in found.wish.beside] == [("mmproj-F16.gguf", 4)]
    assert found.wish.peers == (node(2).node,)


async def test_a_name_of_the_mesh_is_that_model_whatever_the_catalogue_calls_so(tmp_path: Path) -> None:
    name = next(iter(SPECS))
    with pytest.raises(FetchFailed, match=f"nobody gives the files of '{name}'"):
        await finder(tmp_path, node(2, [of_files(name)], linked=False)).find(name, quiet)


async def test_a_spec_that_means_nothing_is_no_weather(site: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="no Q5_K_M: say which") as caught:
        await finder(tmp_path).find("hf:o/r:Q5_K_M", quiet)
    assert not caught.value.is_weather


async def test_a_name_that_nobody_offers_is_told_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match=r"no model 'x'.*there are: m-Q4_0; or name hf:OWNER") as caught:
        await finder(tmp_path, node(2, [of_files()])).find("x", quiet)
    assert caught.value.is_weather


async def test_a_model_without_files_cannot_be_brought(tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="not made of files"):
        await finder(tmp_path, node(2, [offer("parrot")])).find("parrot", quiet)


async def test_a_digest_that_is_still_computed_is_waited_for(tmp_path: Path) -> None:
    looking = finder(tmp_path, node(2, [of_files(digest="")], linked=False))
    told: list[str] = []
    async with asyncio.TaskGroup() as group:
        finding = group.create_task(_failure(looking, told.append))
        while not told:  # noqa: ASYNC110 - it is told by a plain call
            await asyncio.sleep(0)
        views = looking.views
        assert isinstance(views, Views)
        views.show(node(1), node(2, [of_files()], linked=False))
    assert "no node that has it is linked" in str(finding.result())
    assert told == ["waiting until a node that has it has computed its SHA-256"]


async def _failure(looking: ModelFinder, say) -> FetchFailed:  # type: ignore[no-untyped-def]
    with pytest.raises(FetchFailed) as caught:
        await looking.find("m-Q4_0", say)
    return caught.value


@pytest.mark.parametrize("name", ["alias", "m-Q4_0"])
async def test_the_same_bytes_get_the_name_that_was_asked_for(tmp_path: Path, name: str) -> None:
    network = MemoryNetwork()
    here, there = network.transport(node_id(1), Role.MEMBER), network.transport(node_id(2), Role.MEMBER)

    async def answer(stream: Stream) -> None:
        await stream.receive()
        await stream.send(to_record(TheseFiles((PeerFile("m-Q4_0.gguf", 7, bytes.fromhex(DIGEST)),))))
        await stream.finish()

    async def serve() -> None:
        async for stream in there.streams():
            await answer(stream)

    async with here, there, asyncio.TaskGroup() as group:
        here.keep(there.node, there.addresses)
        there.keep(here.node, here.addresses)
        async with asyncio.timeout(60):
            while not any(link.state is LinkState.CONNECTED for link in here.links()):
                await here.board.changed()
        serving = group.create_task(serve())
        found = await finder(tmp_path, node(2, [of_files(name)]), transport=here).find(name, quiet)
        serving.cancel()
    assert [file.name for file in found.wish.files] == [f"{name}.gguf"]
    assert found.wish.peers == (there.node,)


@pytest.mark.parametrize("name", ["../up", "a/b", "-rf", "m-00001-of-00002", ""])
def test_a_name_that_is_no_file_s_is_refused(name: str) -> None:
    with pytest.raises(FetchFailed, match="cannot be the name of a file"):
        named_after(name, [PeerFile("m.gguf", 1, b"\1" * 32)])
