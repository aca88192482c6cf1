"""A model is read by its name: from this disk, or the beginning of its files from the hub or another node."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llm.gguf import read_header
from meshd.model_finder import ModelFinder
from meshd.model_reader import ModelReader, NotRead
from meshd.model_specs import FileSpec
from tests.llm.fake_hub import FakeHub, fake_hub
from tests.llm.mesh import Views
from tests.llm.tiny_gguf import write_tiny_gguf
from tests.llm.views import node, node_id
from tests.meshd.pantries import pantry
from transport.interface import Role
from transport.memory import MemoryNetwork

pytestmark = pytest.mark.live


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    content = write_tiny_gguf(tmp_path / "source.gguf", width=512, layers=4).read_bytes()
    with fake_hub(o__r={"m-F32.gguf": content, "broken-Q8_0.gguf": b"no model" * 1000}) as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        yield found


@asynccontextmanager
async def reader(folder: Path, *specs: FileSpec) -> AsyncIterator[ModelReader]:
    here, views = pantry(folder, *specs), Views()
    views.show(node(1))
    async with MemoryNetwork().transport(node_id(1), Role.MEMBER) as transport:
        yield ModelReader(here, ModelFinder(transport, views, here.digests), transport)


async def test_of_a_model_on_the_hub_only_the_beginning_comes(site: FakeHub, tmp_path: Path) -> None:
    site.hold(after_bytes=2 << 20)  # what is asked for and not read would be sent all the same
    async with reader(tmp_path) as reads:
        known = await reads.read("hf:o/r:F32")
    whole = read_header(tmp_path / "source.gguf")
    assert known.file.tensors == whole.tensors
    assert (known.file.file_bytes, known.file.architecture) == (whole.file_bytes, whole.architecture)
    assert site.sent_bytes < whole.file_bytes / 10
    assert not list(reads.pantry.folder.glob("head-*"))


async def test_what_is_no_model_is_told(site: FakeHub, tmp_path: Path) -> None:
    async with reader(tmp_path) as reads:
        with pytest.raises(NotRead, match=r"broken-Q8_0.gguf: it does not begin with GGUF"):
            await reads.read("hf:o/r:Q8_0")
        with pytest.raises(NotRead, match="no Q4_0: say which"):
            await reads.read("hf:o/r:Q4_0")
        with pytest.raises(NotRead, match="no model 'nobody'"):
            await reads.read("nobody")


async def test_a_model_of_this_disk_is_read_there(tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "here.gguf")
    async with reader(tmp_path, FileSpec("mine", file, is_lazy=True)) as reads:
        for named in ("mine", str(file)):
            known = await reads.read(named)
            assert known.file.paths == (file,)
            assert known.fingerprint == reads.pantry.host.offers()[0].fingerprint
