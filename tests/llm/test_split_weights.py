"""Tensors on a worker's own disk get the names that llama.cpp looks for; the folders stay within their quota."""

from __future__ import annotations

import os
from pathlib import Path

import numpy
import pytest

from llm.gguf import ModelFile, read_header
from llm.split.weight_cache import WeightCache
from llm.split.weights import Part, WeightFiller, large_tensors
from meshd.launcher import ProcessLauncher
from tests.llm.tiny_gguf import write_tiny_gguf
from transport.interface import NodeId

LEADER, OTHER = NodeId(b"\1" * 32), NodeId(b"\2" * 32)
FINGERPRINT = "ab" * 32
PLENTY = 1 << 40


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    """Two layers whose matrices all lie above llama.cpp's threshold, about 200 MiB."""
    folder = tmp_path_factory.mktemp("models")
    return read_header(write_tiny_gguf(folder / "wide.gguf", width=2304, layers=2, matrix_type=numpy.float16))


def fnv_1a(data: bytes) -> str:
    """The hash in the words of its authors."""
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = ((digest ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{digest:016x}"


def test_large_tensors_are_those_of_the_part(wide: ModelFile) -> None:
    first = {tensor.name for tensor in large_tensors(wide, Part(0, 1, has_output=False))}

    assert first and all(name.startswith("blk.0.") for name in first)
    assert not {name for name in first if "norm" in name}
    both = large_tensors(wide, Part(0, 2, has_output=True))
    assert sum(tensor.size_bytes for tensor in both) > 0.98 * wide.file_bytes


@pytest.mark.live
async def test_the_cache_holds_each_tensor_under_its_hash(wide: ModelFile, tmp_path: Path) -> None:
    folder = WeightCache(tmp_path / "cache").open(LEADER, FINGERPRINT, wide.file_bytes)
    assert folder is not None
    filler = WeightFiller(ProcessLauncher(os.environ), tmp_path / "hash.log")
    part = Part(0, 1, has_output=False)
    tensors = large_tensors(wide, part)

    filled = await filler.fill(wide, part, folder)

    data = wide.paths[0].read_bytes()
    contents = {file.name: file.read_bytes() for file in folder.tensors.iterdir()}
    assert sorted(map(len, contents.values())) == sorted(tensor.size_bytes for tensor in tensors)
    assert set(contents.values()) == {data[one.offset : one.offset + one.size_bytes] for one in tensors}
    assert filled == sum(map(len, contents.values()))
    smallest = min(contents, key=lambda name: len(contents[name]))
    assert smallest == fnv_1a(contents[smallest])

    # A second time nothing is hashed and nothing copied.
    before = (tmp_path / "hash.log").read_bytes()
    assert await filler.fill(wide, part, folder) == filled
    assert (tmp_path / "hash.log").read_bytes() == before


def put(cache: WeightCache, leader: NodeId, size: int, at: float) -> Path:
    folder = cache.open(leader, FINGERPRINT, size)
    assert folder is not None
    (folder.tensors / f"{size:016x}").write_bytes(bytes(size))
    os.utime(folder.path, (at, at))
    return folder.path


def test_each_leader_has_a_folder_of_its_own(tmp_path: Path) -> None:
    cache = WeightCache(tmp_path, PLENTY)

    assert put(cache, LEADER, 10, 1.0) != put(cache, OTHER, 10, 2.0)


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    cache = WeightCache(tmp_path, 2500)
    oldest, newer = put(cache, LEADER, 1000, 1.0), put(cache, OTHER, 1000, 2.0)

    third = cache.open(NodeId(b"\3" * 32), FINGERPRINT, 1000)

    assert third is not None
    assert (oldest.exists(), newer.exists()) == (False, True)


def test_a_model_beyond_the_quota_gets_no_folder_and_displaces_nothing(tmp_path: Path) -> None:
    cache = WeightCache(tmp_path, 2500)
    other = put(cache, OTHER, 1000, 1.0)

    assert cache.open(LEADER, FINGERPRINT, 2501) is None
    assert [file.stat().st_size for file in other.glob("rpc/*")] == [1000]


def test_a_folder_that_holds_the_model_already_needs_no_more_room(tmp_path: Path) -> None:
    cache = WeightCache(tmp_path, 1000)
    path = put(cache, LEADER, 1000, 1.0)

    again = cache.open(LEADER, FINGERPRINT, 1000)

    assert again is not None and again.path == path and again.held_bytes == 1000
