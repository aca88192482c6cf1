"""Models are brought, once each, and how that went can be read; the hub is `tests.llm.fake_hub`."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llm.models.fetch import Fetcher
from llm.residency import Policy
from meshd import bringer as bringer_module
from meshd.bringer import Bringer
from meshd.bringing import Bringing, Stage
from meshd.model_finder import ModelFinder
from meshd.model_specs import parse_specs
from meshd.pantry import Pantry, Refused
from tests.llm.fake_hub import FakeHub, fake_hub
from tests.llm.mesh import Views
from tests.llm.tiny_gguf import write_tiny_gguf
from tests.llm.tiny_projector import write_tiny_projector
from tests.llm.views import node, node_id
from tests.meshd.pantries import names, pantry
from transport.blob_message import BlobDigest
from transport.interface import Role
from transport.memory import MemoryNetwork

pytestmark = pytest.mark.live

WAIT_S = 60.0


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    content = write_tiny_gguf(tmp_path / "source.gguf").read_bytes()
    with fake_hub(o__r={"m-F32.gguf": content, "m-Q8_0.gguf": b"x"}) as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        monkeypatch.setattr(bringer_module, "HEARING_S", 0.0)
        yield found


@asynccontextmanager
async def bringing_for(here: Pantry, *specs: str) -> AsyncIterator[Bringer]:
    """A bringer that runs, with those specs on the command line."""
    views = Views()
    views.show(node(1))
    transport = MemoryNetwork().transport(node_id(1), Role.MEMBER)
    brings = Bringer(here, ModelFinder(transport, views, here.digests), Fetcher(transport, here.folder))
    async with transport, asyncio.TaskGroup() as group:
        running = group.create_task(brings.run(parse_specs(specs)))
        await asyncio.sleep(0)
        yield brings
        running.cancel()


async def over(bringing: Bringing) -> Bringing:
    async with asyncio.timeout(WAIT_S):
        while not bringing.is_over:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
    return bringing


async def test_a_wish_comes_true_and_is_no_wish_any_more(site: FakeHub, tmp_path: Path) -> None:
    here = pantry(tmp_path)
    async with bringing_for(here) as brings:
        first = brings.begin("hf:o/r:F32", Policy.LAZY, loads=False)
        assert brings.begin("hf:o/r:F32", Policy.LAZY, loads=False) is first
        await over(first)
    assert (first.stage, first.name, names(here), here.wishes) == (Stage.DONE, "m-F32", ["m-F32"], ())
    assert here.has_brought("hf:o/r:F32")


async def test_what_lets_a_model_see_comes_with_it_and_goes_with_it(site: FakeHub, tmp_path: Path) -> None:
    projector = write_tiny_projector(tmp_path / "source-mmproj.gguf").read_bytes()
    site.repos["o/r"] |= {"mmproj-F16.gguf": projector, "mmproj-F32.gguf": b"larger"}
    here = pantry(tmp_path)
    async with bringing_for(here) as brings:
        brought = await over(brings.begin("hf:o/r:F32", Policy.LAZY, loads=False))
    (model,) = here.local
    (beside,) = model.paths[0].parent.glob("mmproj*")
    assert (brought.stage, beside.name, beside.read_bytes()) == (Stage.DONE, "mmproj-F16.gguf", projector)
    assert brought.meter.done_bytes == model.paths[0].stat().st_size + len(projector)
    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
        hashing = group.create_task(here.run())
        while here.lending.store.path(BlobDigest(hashlib.sha256(projector).digest())) != beside:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        hashing.cancel()
    assert set(await here.remove(model.name)) == {model.paths[0], beside}
    assert not beside.exists()


async def test_what_failed_is_told_and_not_tried_at_the_next_start(site: FakeHub, tmp_path: Path) -> None:
    here = pantry(tmp_path)
    async with bringing_for(here) as brings:
        failed = await over(brings.begin("hf:o/r:Q4_0", Policy.LAZY, loads=False))
    assert failed.stage is Stage.FAILED
    assert "no Q4_0: say which" in failed.words
    assert pantry(tmp_path).wishes == ()


async def test_a_file_that_is_no_model_is_told_after_it_came(site: FakeHub, tmp_path: Path) -> None:
    here = pantry(tmp_path)
    async with bringing_for(here) as brings:
        failed = await over(brings.begin("hf:o/r:Q8_0", Policy.LAZY, loads=False))
    assert failed.stage is Stage.FAILED
    assert "expected a GGUF file" in failed.words
    assert names(here) == []


async def test_the_same_files_under_another_wish_are_here_already(site: FakeHub, tmp_path: Path) -> None:
    here = pantry(tmp_path)
    async with bringing_for(here) as brings, asyncio.TaskGroup() as group:
        hashing = group.create_task(here.run())
        await over(brings.begin("hf:o/r:F32", Policy.LAZY, loads=False))
        async with asyncio.timeout(WAIT_S):
            while not here.host.offers()[0].digest:
                await here.host.changed()
        sent = site.sent_bytes
        again = await over(brings.begin("hf:o/r:m-F32", Policy.LAZY, loads=False))
        hashing.cancel()
    assert (again.stage, again.words, site.sent_bytes) == (Stage.DONE, "m-F32 was here already", sent)
    assert here.wishes == ()


async def test_what_the_command_line_names_waits_for_the_hub_and_then_comes(
    site: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bringer_module, "RETRY_S", (0.05,))
    site.is_away = True
    here = pantry(tmp_path)
    async with bringing_for(here, "hf:o/r:F32") as brings:
        (coming,) = brings.bringings
        async with asyncio.timeout(WAIT_S):
            while coming.stage is not Stage.WAITING or "503" not in coming.words:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        site.is_away = False
        await over(coming)
    engine = here.resident("m-F32")
    assert engine is not None and engine.policy is Policy.PINNED


async def test_an_interrupted_wish_is_taken_up_at_the_next_start(site: FakeHub, tmp_path: Path) -> None:
    site.hold(after_bytes=0)
    async with bringing_for(pantry(tmp_path)) as brings:
        stuck = brings.begin("hf:o/r:F32", Policy.LAZY, loads=False)
        async with asyncio.timeout(WAIT_S):
            while stuck.as_json()["state"] != "bringing":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert stuck.as_json()["state"] == "cancelled"
    site.go_on()
    async with asyncio.timeout(WAIT_S):
        while brings.fetcher._busy:  # noqa: ASYNC110 - a thread of the agent that was; its own start would not see it
            await asyncio.sleep(0.01)
    here = pantry(tmp_path)
    async with bringing_for(here) as brings:
        (coming,) = brings.bringings
        await over(coming)
    assert (coming.wanted, names(here)) == ("hf:o/r:F32", ["m-F32"])


async def test_a_node_that_hosts_nothing_brings_nothing(tmp_path: Path) -> None:
    here = pantry(tmp_path)
    async with bringing_for(here) as brings:
        idle = brings
    with pytest.raises(Refused, match="hosts nothing"):
        idle.begin("hf:o/r", Policy.LAZY, loads=False)
